"""What is wrong is said in one clear line on standard error, with the right exit code, and nothing is left running."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.daemon import Finished, Home, home
from tests.end_to_end.markets import BUSY_RISK, busy_strategy, walk, write_csv, write_walks

pytestmark = pytest.mark.slow

CONFIGURATION, FAILURE = 4, 1


def _assert_one_line(finished: Finished, code: int, *words: str) -> None:
    lines = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    assert finished.code == code, finished.said
    assert len(lines) == 1, finished.said
    assert "Traceback" not in finished.stderr, finished.said
    assert finished.stderr.splitlines()[-1] == lines[0], finished.said
    for word in words:
        assert word in lines[0], f"{word!r} is missing in: {lines[0]}"


def _typo(bot: Home) -> None:
    bot.write(risk={"max_exposur": 0.5})


def _wrong_type(bot: Home) -> None:
    bot.write(max_open_trades="three")


def _missing_candles(bot: Home) -> None:
    bot.write(market={"candles": "BTC_USDT-1h.csv"})


def _garbage_candles(bot: Home) -> None:
    (bot.folder / "BTC_USDT-1h.csv").write_bytes(b"\x00\xffnot candles\n" * 50)
    bot.write(market={"candles": "BTC_USDT-1h.csv"})


def _syntax_error(bot: Home) -> None:
    folder = busy_strategy(bot.folder / "mine")
    (folder / "broken.py").write_text("class Broken:\n    name = 'broken'\n    def signals(self, candles)\n")
    bot.write(strategy_path=str(folder))


def _missing_strategy(bot: Home) -> None:
    bot.write(strategies=["ema_tren"])


def _unwritable_log(bot: Home) -> None:
    (bot.folder / "file").write_text("not a folder")
    bot.write(logfile="file/bot.log")


def _unwritable_database(bot: Home) -> None:
    (bot.folder / "file").write_text("not a folder")
    bot.write(db_url=f"sqlite:///{bot.folder}/file/bot.sqlite")


def _no_database_server(bot: Home) -> None:
    bot.write(db_url=f"postgresql://bot@127.0.0.1:{_closed_port()}/bot")


def _unreachable_exchange(bot: Home) -> None:
    """A real venue's client whose every address is a closed port of this machine."""
    here = f"http://127.0.0.1:{_closed_port()}"
    addresses = dict.fromkeys(("public", "private", "v1", "sapi", "fapiPublic", "dapiPublic"), here)
    bot.write(
        timeframe="1h",
        exchange={
            "name": "binance",
            "orders": "paper",
            "pair_whitelist": ["BTC/USDT"],
            "ccxt_config": {"urls": {"api": addresses}, "options": {"fetchMarkets": {"types": ["spot"]}}},
        },
    )


CASES: dict[Callable[[Home], None], tuple[int, tuple[str, ...]]] = {
    _typo: (CONFIGURATION, ("max_exposur", "did you mean", "max_exposure", "bot.yaml")),
    _wrong_type: (CONFIGURATION, ("max_open_trades", "three", "bot.yaml")),
    _missing_candles: (CONFIGURATION, ("BTC_USDT-1h.csv",)),
    _garbage_candles: (FAILURE, ("BTC_USDT-1h.csv",)),
    _syntax_error: (CONFIGURATION, ("broken.py", "line 3")),
    _missing_strategy: (CONFIGURATION, ("ema_tren", "did you mean", "ema_trend")),
    _unwritable_log: (CONFIGURATION, ("logfile", "file/bot.log")),
    _unwritable_database: (FAILURE, ("file", "database")),
    _no_database_server: (FAILURE, ("127.0.0.1",)),
    _unreachable_exchange: (FAILURE, ("binance", "127.0.0.1")),
}


def _closed_port() -> int:
    """A port of this machine at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("case", list(CASES), ids=lambda case: case.__name__.strip("_"))
def test_one_line_says_what_is_wrong(case: Callable[[Home], None], tmp_path: Path) -> None:
    code, words = CASES[case]
    with home(tmp_path) as bot:
        case(bot)
        finished = bot.run()
        _assert_one_line(finished, code, *words)
        assert bot.exchange() is None


def test_a_second_daemon_is_refused_and_names_the_first(tmp_path: Path) -> None:
    with home(tmp_path, market={"candles_per_second": 1, "max_bars": 0}) as bot:
        first = bot.start()
        bot.wait_for("^decision")
        number = len(bot.lives)
        second = bot.run(seconds=20)
        _assert_one_line(second, FAILURE, "already runs", f"process {first.process.pid}")
        assert first.running
        assert bot.exchange() is not None, "the refused daemon stopped the other's exchange"
        seen = len(bot.lines("^decision"))
        bot.lives = bot.lives[:number]
        bot.wait_for("^decision", seen + 3)


def test_an_account_is_not_continued_on_another_market(tmp_path: Path) -> None:
    candles = write_walks(tmp_path / "candles", 630)
    with home(tmp_path / "home", market={"candles": candles, "max_bars": 5}) as bot:
        assert bot.run().code == 0
        other = [write_csv(tmp_path / "other", walk("BTC/USDT", 630, 9, 400.0)), *candles[1:]]
        bot.write(market={"candles": other, "max_bars": 10})
        _assert_one_line(bot.run(), CONFIGURATION, "another market", "reset")
        bot.write(market={"candles": candles, "max_bars": 10})
        again = bot.run()
        assert again.code == 0, again.said


def test_a_strategy_that_raises_is_switched_off_and_the_others_go_on(tmp_path: Path) -> None:
    folder = busy_strategy(tmp_path / "strategies")
    (folder / "moody.py").write_text(
        (folder / "busy.py")
        .read_text()
        .replace("class Busy", "class Moody")
        .replace('"busy"', '"moody"')
        .replace("        beat =", '        raise ValueError("out of sorts")\n        beat =')
    )
    with home(
        tmp_path / "home",
        strategy_path=str(folder),
        market={"candles": write_walks(tmp_path / "candles", 625), "max_bars": 12},
        risk=BUSY_RISK,
    ) as bot:
        finished = bot.run()
        assert finished.code == 0, finished.said
        failed = bot.lines("^strategy +moody +failed: .*out of sorts")
        assert len(failed) == 2 * 3 + 1, "three times in a row on one of three symbols"
        assert "switched off" in failed[-1]
        assert not [line for line in failed[:-1] if "switched off" in line]
        assert bot.lines("^fill"), "the other strategy did not go on"
        assert "Traceback" not in finished.stderr
        bot.ledgers().assert_agree()
