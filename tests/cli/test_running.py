"""Verbs that run something for real: the daemon, the local exchange, a backtest, a download; and their bad inputs."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Verb, parsed
from trading_bot.storage.lock import holder

ROOT = Path(__file__).parent.parent.parent
QUICK = """
data_dir: data
strategy_path: {strategies}
synthetic: {{bars: 700}}
market: {{history: 600, max_bars: 12, candles_per_second: {pace}}}
"""
CANARIES = {
    "TRADING_BOT__EXCHANGE__KEY": "c4n4ry-key",
    "TRADING_BOT__EXCHANGE__SECRET": "c4n4ry-secret",
    "TRADING_BOT__EXCHANGE__PASSWORD": "c4n4ry-password",
    "TRADING_BOT__EXCHANGE__CCXT_CONFIG": "{walletPassphrase: c4n4ry-passphrase, token: c4n4ry-token}",
}


@pytest.fixture
def config(home: Path) -> Path:
    """A configuration whose market ends by itself after a few bars."""
    path = home / "quick.yaml"
    path.write_text(QUICK.format(strategies=ROOT / "strategies", pace="lockstep"))
    return path


def type_in(*words: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A verb in a process of its own, as a user starts it."""
    return subprocess.run(
        [sys.executable, "-m", "trading_bot", *words],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **(environ or {})},
    )


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    """A verb that goes on until it is told to stop; it is gone afterwards, whatever happened."""
    process = subprocess.Popen(
        [sys.executable, "-m", "trading_bot", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Return when `condition` holds; fail if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.05)


def test_run_trades_until_the_candles_end_and_leaves_no_secret(verb: Verb, home: Path, config: Path) -> None:
    done = type_in("run", "-c", "quick.yaml", environ=CANARIES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trading on paper, on the local exchange" in done.stdout
    assert "tail -f bot_debug.log" in done.stdout
    assert (home / "bot_debug.log").read_text() == (home / "logs/bot_debug.log").read_text()
    assert "decision" in done.stderr
    assert "stopped" in verb("status", "-c", "quick.yaml", code=3).output
    decisions = parsed(verb("show-decisions", "-c", "quick.yaml", "--json", "--last", "0"))
    assert len(decisions) == 3 * 13  # the newest bar of the history, then twelve more
    assert "bar of" in verb("why", "BTC/USDT", "-c", "quick.yaml").output
    assert "c4n4ry" not in done.stdout + done.stderr
    for file in home.rglob("*"):
        if file.is_file():
            assert b"c4n4ry" not in file.read_bytes(), file
    (run,) = sqlite3.connect(home / "data/trading_bot.sqlite").execute("SELECT configuration FROM runs").fetchall()
    assert '"***"' in run[0]


def test_secrets_are_on_no_screen(home: Path, config: Path) -> None:
    credentials, password = home / "credentials.yaml", home / "db_password"
    credentials.write_text("key: c4n4ry-file-key\nsecret: c4n4ry-file-secret\n")
    password.write_text("c4n4ry-file-password\n")
    environ = {
        "TRADING_BOT__EXCHANGE__PASSWORD": "c4n4ry-password",
        "TRADING_BOT__EXCHANGE__CCXT_CONFIG": "{token: c4n4ry-token, httpProxy: 'http://me:c4n4ry-proxy@127.0.0.1:1'}",
        "TRADING_BOT__EXCHANGE__CREDENTIALS_FILE": str(credentials),
    }
    unreachable = {
        **environ,
        "TRADING_BOT__DB_URL": "postgresql+psycopg://me@127.0.0.1:1/x",
        "TRADING_BOT__DB_PASSWORD_FILE": str(password),
    }
    in_url = {**environ, "TRADING_BOT__DB_URL": "postgresql+psycopg://me:c4n4ry-url-password@127.0.0.1:1/x"}
    screens = [
        type_in(*words, "-c", "quick.yaml", environ=given)
        for words, given in (
            (["show-config"], unreachable),
            (["show-config", "--json"], in_url),
            (["doctor"], unreachable),
            (["status", "-vv"], in_url),
            (["show-trades", "-vv"], unreachable),
            (["run", "-vv"], in_url),
        )
    ]
    assert [screen.returncode for screen in screens] == [0, 0, 1, 1, 1, 1]
    for screen in screens:
        assert "c4n4ry" not in screen.stdout + screen.stderr
    assert "Traceback" in screens[-1].stderr
    assert "c4n4ry" not in (home / "logs/bot_debug.log").read_text()


def test_run_stops_on_sigterm_and_a_second_daemon_is_refused(verb: Verb, home: Path, config: Path) -> None:
    config.write_text(QUICK.format(strategies=ROOT / "strategies", pace=0.5))
    with running("run", "-c", "quick.yaml") as process:
        wait_for(lambda: holder(home / "data") is not None)
        second = verb("run", "-c", "quick.yaml", code=1)
        assert second.stderr.splitlines()[-1].startswith("error: ")
        assert str(process.pid) in second.stderr
        wait_for(lambda: "decision" in (home / "logs/bot_debug.log").read_text())
        assert f"running (pid {process.pid})" in verb("status", "-c", "quick.yaml").output
        assert "paused" in verb("pause", "-c", "quick.yaml", "--timeout", "30").output
        assert "stopping" in verb("stop", "-c", "quick.yaml", "--timeout", "30").output
        assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("market: {candles: missing/BTC_USDT-1h.csv}", 4, "missing/BTC_USDT-1h.csv not found"),
        ("market: {candles: BTC_USDT-1h.csv}", 1, "has columns 'garbage'"),
        ("strategy_path: broken", 4, "broken/bad.py, line 1"),
        ("strategies: [atr_brekout]", 4, "did you mean 'atr_breakout'?"),
        ("exchange: {pair_whitelist: [XRP/USDT]}", 4, "this market lists BTC/USDT, ETH/USDT, ADA/USDT"),
        ("timeframe: 5m", 4, "replays '1h' candles"),
        ("db_url: sqlite:////proc/x.sqlite", 1, "database /proc/x.sqlite cannot be opened"),
        ("db_url: mysql://localhost/x", 4, "mysql"),
        ("logfile: BTC_USDT-1h.csv/bot.log", 4, "logfile: cannot write BTC_USDT-1h.csv/bot.log"),
        ("exchange: {name: binanse, orders: paper, pair_whitelist: [A/B]}\ntimeframe: 1h", 4, "did you mean binance"),
        (
            "exchange: {name: binance, sandbox: true, pair_whitelist: [A/B]}\ntimeframe: 1h",
            4,
            "exchange.key is not set",
        ),
    ],
)
def test_what_run_cannot_work_with_is_one_line(home: Path, config: Path, text: str, code: int, words: str) -> None:
    (home / "BTC_USDT-1h.csv").write_text("garbage\n1\n")
    (home / "broken").mkdir()
    (home / "broken/bad.py").write_text("def (\n")
    (home / "bad.yaml").write_text(text)
    done = type_in("run", "-c", "quick.yaml", "-c", "bad.yaml")
    assert done.returncode == code, done.stderr
    errors = [line for line in done.stderr.splitlines() if not re.match(r"\d\d:\d\d:\d\d", line)]
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith("error: ")
    assert words in errors[0]


def test_simulate_serves_until_it_is_stopped(home: Path, config: Path) -> None:
    from urllib.request import urlopen

    with running("simulate", "-c", "quick.yaml") as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or not lines[-1].startswith("Listening on "):
            lines.append(process.stdout.readline())
            assert lines[-1], "it ended before it listened"
        url = lines[-1].split()[-1]
        with urlopen(f"{url}/api/v3/time", timeout=10) as answer:
            assert b"serverTime" in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert (home / "logs/exchange.log").exists()
    assert not (home / "bot_debug.log").exists()  # that name is the bot's


def test_backtesting(verb: Verb, config: Path) -> None:
    shown = verb("backtesting", "-c", "quick.yaml").output
    assert "synthetic" in shown
    assert re.search(r"profit ratio +[+-]\d+\.\d\d%", shown)
    assert re.search(r"exposure +\d+\.\d\d%", shown)
    summary = parsed(verb("backtesting", "-c", "quick.yaml", "--json"))
    assert summary["bars"] == 13
    narrow = parsed(verb("backtesting", "-c", "quick.yaml", "--json", "--timerange", "20240127-20240128"))
    assert narrow["from"] >= "2024-01-26T22"
    assert "nothing to backtest" in verb(
        "backtesting", "-c", "quick.yaml", "--timerange", "20300101-20300201", code=4
    ).stderr  # fmt: skip


def test_download_data_from_the_local_exchange(verb: Verb, home: Path, config: Path) -> None:
    rows = parsed(
        verb("download-data", "-c", "quick.yaml", "--days", "3", "-p", "BTC/USDT", "--json", "--folder", "got")
    )
    assert [(row["symbol"], row["timeframe"], row["gaps"]) for row in rows] == [("BTC/USDT", "1h", 0)]
    assert rows[0]["rows"] >= 72
    assert "got/BTC_USDT-1h.feather" in verb("list-data", "--folder", "got").output


def test_downloaded_candles_lie_where_they_are_looked_for(home: Path) -> None:
    """Of a real venue, `backtesting` reads what `download-data` wrote; of a sandbox neither touches those."""
    from trading_bot.bootstrap import candle_folder
    from trading_bot.settings import load_settings

    venue = {"name": "binance", "orders": "paper", "pair_whitelist": ["BTC/USDT"]}
    real = load_settings([], {"timeframe": "1h", "exchange": venue})
    play = load_settings([], {"timeframe": "1h", "exchange": {**venue, "sandbox": True}})
    assert candle_folder(real).name == "binance"
    assert candle_folder(play) != candle_folder(real)
