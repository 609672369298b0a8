"""A local exchange that was found running is the one the configuration asks for, or it is started anew."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.exchange.local import until
from trading_bot.exchange.local_control import LocalControl
from trading_bot.exchange.local_process import running_exchange
from trading_bot.exchange.simulator.server import find_server

TEXT = """
data_dir: {folder}
market: {{candles_per_second: lockstep}}
synthetic: {{bars: 700, symbols: [BTC/USDT]}}
paper: {{taker_fee: {fee}}}
"""


def market_name(url: str) -> str:
    control = LocalControl(url)
    try:
        return str(control.get("info")["name"])
    finally:
        control.close()


def test_an_orphan_with_another_configuration_is_started_anew(tmp_path: Path) -> None:
    state = tmp_path / "exchange"
    state.mkdir()
    before, after = (TEXT.format(folder=tmp_path, fee=fee) for fee in ("0.001", "0.002"))
    (state / "config.yaml").write_text(before)
    orphan = subprocess.Popen(
        [sys.executable, "-m", "trading_bot", "simulate", "-c", str(state / "config.yaml")], cwd=tmp_path
    )
    try:
        until(lambda: find_server(state) is not None)
        with running_exchange(state, before, owner=False) as same:
            assert same.pid == orphan.pid
        with running_exchange(state, after, owner=True) as other:
            assert other.pid != orphan.pid
            assert orphan.wait(10) == 0
            assert (state / "config.yaml").read_text() == after
            assert market_name(other.url) == "synthetic (seed 7)"
    finally:
        if orphan.poll() is None:
            orphan.kill()
            orphan.wait()
    assert find_server(state) is None
