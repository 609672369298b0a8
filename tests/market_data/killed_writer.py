"""Run as a program: is killed again and again while it writes one candle file, and reads it back each time.

Arguments: the file, the number of kills, a seed. Prints "kills=N versions=M leftovers=K".
"""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path

from tests.market_data.venue import bars
from trading_bot.durable import remove_leftovers
from trading_bot.market_data import feather

_VERSIONS = 1_000_000


def write_for_ever(path: Path, told: int, first: int) -> None:
    """Versions of growing length, a byte to `told` before each."""
    candles = bars(3000)
    for version in range(first, _VERSIONS):
        os.write(told, b"b")
        feather.write(path, candles[: 1000 + version % 2000])


def main() -> None:
    path, kills, chance = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    whole = bars(3000)
    lengths = set()
    leftovers = 0
    feather.write(path, whole[:1000])
    for _ in range(kills):
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                write_for_ever(path, write_end, chance.randrange(2000))
            finally:
                os._exit(1)
        os.close(write_end)
        for _ in range(chance.randrange(1, 6)):
            os.read(read_end, 1)
        for _ in range(chance.randrange(20_000)):  # some moment within a version
            pass
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(read_end)
        found, _ = feather.read(path, "BTC/USDT", "1h")
        assert len(found) >= 1000
        assert found.close.tobytes() == whole.close[: len(found)].tobytes()
        lengths.add(len(found))
        leftovers += len(list(path.parent.glob(".*.tmp")))
        remove_leftovers(path)
        assert list(path.parent.iterdir()) == [path]
    print(f"kills={kills} versions={len(lengths)} leftovers={leftovers}")  # noqa: T201


if __name__ == "__main__":
    main()
