"""Verbs about files: configurations, strategies, candles, the account put aside, the doctor."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Verb, parsed
from trading_bot.settings import Settings, load_settings
from trading_bot.storage.lock import DataLock

ROOT = Path(__file__).parent.parent.parent


def write_candles(path: Path, bars: int = 30) -> None:
    """A small candle file in the form the exchange data comes in."""
    rows = [f"2024-01-{1 + bar // 24:02d} {bar % 24:02d}:00:00,100,101,99,100.5,10" for bar in range(bars)]
    rows.insert(0, "date,open,high,low,close,volume")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("\n".join(rows).encode()))


# --- configuration ---------------------------------------------------------------------------------------------------


def test_show_config_shows_what_is_in_force(verb: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_BOT__EXCHANGE__SECRET", "c4n4ry-secret")
    monkeypatch.setenv("TRADING_BOT__DB_URL", "postgresql://me:c4n4ry-password@host/db")
    flags = ["-s", "a,b", "-i", "4h", "-p", "btc/usdt eth/usdt", "--fee", "0.002", "--strategy-path", "mine"]
    shown = verb("show-config", *flags, "--logfile", "x.log").output
    values = yaml.safe_load(shown)
    assert values["strategies"] == ["a", "b"]
    assert values["timeframe"] == "4h"
    assert values["exchange"]["pair_whitelist"] == ["BTC/USDT", "ETH/USDT"]
    assert (values["paper"]["maker_fee"], values["paper"]["taker_fee"]) == ("0.002", "0.002")
    assert (values["strategy_path"], values["logfile"]) == ("mine", "x.log")
    assert values["exchange"]["secret"] == "***"
    assert values["db_url"] == "postgresql://me:***@host/db"
    for more in ([], ["--json"], ["--schema"]):
        assert "c4n4ry" not in verb("show-config", *more).output
    assert parsed(verb("show-config", "--schema"))["title"] == "Settings"
    assert parsed(verb("show-config", "--json"))["max_open_trades"] == 3


def test_what_show_config_prints_is_a_configuration(verb: Verb, home: Path) -> None:
    (home / "again.yaml").write_text(verb("show-config").output)
    assert load_settings([home / "again.yaml"], environ={}) == Settings()


def test_new_config_writes_a_file_that_loads(verb: Verb, home: Path) -> None:
    assert "wrote conf/mine.yaml" in verb("new-config", "conf/mine.yaml").output
    assert load_settings([home / "conf/mine.yaml"], environ={}) == Settings()
    assert "there already" in verb("new-config", "conf/mine.yaml", code=4).stderr
    (home / "file").write_text("x")
    assert "cannot write file/x.yaml" in verb("new-config", "file/x.yaml", code=4).stderr


# --- strategies ------------------------------------------------------------------------------------------------------


def test_list_strategies_shows_the_good_and_tells_of_the_broken(verb: Verb, home: Path) -> None:
    shown = verb("list-strategies", "--strategy-path", str(ROOT / "strategies")).output
    assert "atr_breakout" in shown
    assert "trending" in shown
    (home / "strategies").mkdir()
    assert "no strategies in strategies" in verb("list-strategies").output
    (home / "strategies/bad.py").write_text("def signals(:\n")
    result = verb("list-strategies", code=4)
    assert "strategies/bad.py, line 1" in result.stderr
    assert list(parsed(verb("list-strategies", "--json", code=4))["broken"]) == ["strategies/bad.py"]
    assert "not found" in verb("list-strategies", "--strategy-path", "nowhere", code=4).stderr


def test_new_strategy_writes_one_that_loads(verb: Verb, home: Path) -> None:
    assert "wrote strategies/my_breakout.py" in verb("new-strategy", "my_breakout").output
    assert "my_breakout" in verb("list-strategies").output
    assert "there already" in verb("new-strategy", "my_breakout", code=4).stderr
    for name in ("My-Thing", "class", "1st", "../escape", "_private"):
        assert "wanted a lower-case word" in verb("new-strategy", name, code=2).output
    assert [path.name for path in (home / "strategies").glob("*.py")] == ["my_breakout.py"]


# --- candles ---------------------------------------------------------------------------------------------------------


def test_list_data(verb: Verb, home: Path) -> None:
    assert "no candle files in data/candles" in verb("list-data").output
    assert parsed(verb("list-data", "--json")) == []
    write_candles(home / "data/candles/somewhere/BTC_USDT-1h.csv.gz")
    (home / "data/candles/ETH_USDT-1h.csv").write_text("garbage")
    shown = verb("list-data").output
    assert "2024-01-02 05:00" in shown
    rows = parsed(verb("list-data", "--json"))
    assert [(row["symbol"], row["rows"], bool(row["problem"])) for row in rows] == [
        ("ETH/USDT", 0, True),
        ("BTC/USDT", 30, False),
    ]
    assert len(parsed(verb("list-data", "--json", "--folder", "data/candles/somewhere"))) == 1


def test_list_timeframes(verb: Verb, home: Path) -> None:
    assert verb("list-timeframes").output == "local: 1h\n"
    (home / "files.yaml").write_text("market: {candles: [BTC_USDT-4h.csv, ETH_USDT-4h.csv]}")
    assert parsed(verb("list-timeframes", "-c", "files.yaml", "--json")) == ["4h"]
    (home / "binance.yaml").write_text(
        "timeframe: 1h\nexchange: {name: binance, orders: paper, pair_whitelist: [BTC/USDT]}"
    )
    assert "1h" in parsed(verb("list-timeframes", "-c", "binance.yaml", "--json"))


# --- the database ----------------------------------------------------------------------------------------------------


def test_db_upgrade(verb: Verb, home: Path) -> None:
    assert "made, now at" in verb("db", "upgrade").output
    assert (home / "data/trading_bot.sqlite").exists()
    assert "already" in verb("db", "upgrade").output
    assert "mysql" in verb("db", "upgrade", "--db-url", "mysql://host/x", code=4).stderr
    (home / "file").write_text("x")
    assert verb("db", "upgrade", "--db-url", "sqlite:///file/x.sqlite", code=1).stderr.startswith("error: ")


def test_reset_puts_the_account_aside(verb: Verb, account: str, home: Path) -> None:
    (home / "data/exchange").mkdir()
    (home / "data/exchange/exchange.sqlite").write_text("ledger")
    assert "Aborted" in verb("reset", code=1, stdin="n\n").output
    assert (home / "data/trading_bot.sqlite").exists()
    with DataLock(home / "data", run_id="run-1"):
        assert verb("reset", "--yes", code=1).stderr.startswith("error: ")
    assert (home / "data/trading_bot.sqlite").exists()
    assert "is kept in data/old-" in verb("reset", "--yes").output
    assert not (home / "data/trading_bot.sqlite").exists()
    (aside,) = (home / "data").glob("old-*")
    assert (aside / "exchange/exchange.sqlite").read_text() == "ledger"
    assert "T1" in verb("show-trades", "--db-url", f"sqlite:///{aside}/trading_bot.sqlite").output
    assert "nothing to put aside" in verb("reset", "--yes").output


def test_reset_refuses_real_accounts_and_other_databases(verb: Verb, home: Path) -> None:
    config = "timeframe: 1h\nlive_trading_confirmed: true\nexchange: {name: binance, pair_whitelist: [BTC/USDT]"
    for ending in ("}", ", sandbox: true}"):
        (home / "live.yaml").write_text(config + ending)
        assert "orders of this configuration go to binance" in verb("reset", "-c", "live.yaml", code=4).stderr
    refused = verb("reset", "--db-url", "postgresql+psycopg://me@localhost/x", code=4).stderr
    assert "reset moves a SQLite file aside" in refused


# --- doctor ----------------------------------------------------------------------------------------------------------


def test_doctor_finds_all_well(verb: Verb, home: Path) -> None:
    (home / "strategies").symlink_to(ROOT / "strategies")
    shown = verb("doctor").output
    assert "problem" not in shown
    findings = parsed(verb("doctor", "--json"))
    assert len(findings) == 10
    assert all(finding["ok"] for finding in findings)


@pytest.mark.parametrize(
    ("text", "check", "words"),
    [
        ("stoplos: 1", "configuration", "did you mean 'stoploss'"),
        ("strategy_path: nowhere", "strategies", "nowhere not found"),
        ("data_dir: file/data", "data folder", "cannot write file/data"),
        ("logfile: file/bot.log", "log", "cannot write file/bot.log"),
        ("market: {candles: BTC_USDT-1h.csv}", "candles", "BTC_USDT-1h.csv"),
        ("db_url: mysql://host/x", "database", "mysql"),
        (
            "timeframe: 1h\nexchange: {name: binance, sandbox: true, pair_whitelist: [BTC/USDT]}",
            "credentials",
            "TRADING_BOT__EXCHANGE__KEY",
        ),
    ],
)
def test_doctor_names_what_is_wrong(verb: Verb, home: Path, text: str, check: str, words: str) -> None:
    (home / "file").write_text("x")
    (home / "mine.yaml").write_text(text)
    findings = {f["check"]: f for f in parsed(verb("doctor", "-c", "mine.yaml", "--json", code=1))}
    assert not findings[check]["ok"]
    assert words in findings[check]["found"]


def test_doctor_sees_a_taken_port(verb: Verb, home: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        (home / "mine.yaml").write_text(f"market: {{port: {taken.getsockname()[1]}}}")
        findings = {f["check"]: f for f in parsed(verb("doctor", "-c", "mine.yaml", "--json", code=1))}
    assert "set market.port to 0" in findings["local port"]["found"]
