"""How late decisions are while strategies train on all cores: p99 ≤ 1 s, beside the same bot that does not train.

A market that closes PACE bars a second, three symbols, a year of hourly candles to learn from. The bot that trains does
so without a pause: another training begins at the bar after one has ended. Bar k closes k / PACE seconds after the
first, so a bar's lateness is the time of its last decision in the log less that, counted from the earliest such
difference of the run (a bar that met nobody else; what is common to all bars, some 20 ms, is not in it).
"""

from __future__ import annotations

import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks._daemon import paced_daemon, wait_until_ended
from benchmarks._figures import goal, high_ms, say, times

PACE = 5.0  # bars a second
BARS = 300
HISTORY = 9_000
_DECISION = re.compile(r"^(\S+ \S+) INFO +decision .* bar=(\S+)")
_TRAINED = re.compile(r"learn +all +\d+ of \d+ strategies trained.* seconds=(\S+)")


def main() -> None:
    late: dict[str, list[float]] = {}
    for name, learning in (
        ("no training", {"enabled": False}),
        ("training without a pause", {"every_bars": 1, "check_bars": 1, "max_workers": 2}),
    ):
        with (
            tempfile.TemporaryDirectory() as folder,
            paced_daemon(Path(folder), BARS, PACE, HISTORY, **learning) as daemon,
        ):
            wait_until_ended(daemon, 120 + 3 * BARS / PACE)
            log = daemon.log.read_text()
        late[name] = lateness(log)
        times(f"lateness, {name}", late[name])
        spent = [float(seconds) for seconds in _TRAINED.findall(log)]
        say(f"{name:<46} {len(spent)} trainings of {sum(spent):.1f} s in {BARS / PACE:g} s")
    goal("p99 lateness while training", high_ms(late["training without a pause"]) / 1000, "s", most=1.0)


def lateness(log: str) -> list[float]:
    """Seconds of each bar, by the log of a bot in a market that moves by itself."""
    decided: dict[datetime, datetime] = {}
    for line in log.splitlines():
        if (found := _DECISION.match(line)) is not None:
            bar = datetime.fromisoformat(found[2]).replace(tzinfo=UTC)
            decided[bar] = datetime.fromisoformat(found[1]).replace(tzinfo=UTC)
    first = min(decided)
    hours = {bar: (bar - first).total_seconds() / 3600 for bar in decided}
    differences = [told.timestamp() - hours[bar] / PACE for bar, told in sorted(decided.items())][1:]  # start-up apart
    return [difference - min(differences) for difference in differences]


if __name__ == "__main__":
    main()
