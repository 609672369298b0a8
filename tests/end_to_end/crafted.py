"""A crafted market on the real local exchange, a strategy that follows a script, and the whole bot, bar by bar.

with crafted(tmp_path, {"BTC/USDT": bars}, {"BTC/USDT": {0: 1}}, stoploss=-0.05) as show:
    show.play()
    assert show.trades()[0].exit_reason == "stop_loss"

Bars are (open, high, low, close) and come after QUIET bars of history; scripts say side or (side, confidence) by the
number of the bar at whose close they speak, the first crafted bar being 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from queue import Empty
from typing import Any

import numpy as np
import pytest
import yaml
from loguru import logger

from tests.exchange.local import START, Local, local_exchange
from trading_bot.bootstrap import Bot, build_bot, new_bot_id
from trading_bot.domain.account import Trade
from trading_bot.domain.journal import Command, Decision
from trading_bot.domain.market import Candles
from trading_bot.domain.orders import Fill, Order
from trading_bot.exchange import local_process
from trading_bot.exchange.config import PaperConfig
from trading_bot.ports import MarketEnded
from trading_bot.service.daemon import Daemon
from trading_bot.service.jobs import Jobs
from trading_bot.settings import load_settings
from trading_bot.trading.commands import obey
from trading_bot.trading.recovery import Surroundings, recover

HOUR = 3_600_000
QUIET = 600  # bars of history; START is a midnight, so that the first crafted bar is one too
FIRST = START + QUIET * HOUR
Bars = Sequence[tuple[float, float, float, float]]
Script = Mapping[int, int | tuple[int, float]]

_STRATEGY = """
import json
import numpy as np
from pathlib import Path
from trading_bot.domain.market import Regime
from trading_bot.trading.strategy import Signals

class Scripted:
    name = "scripted"
    warmup = 1
    affinity = {regime: 1.0 for regime in Regime}

    def signals(self, candles):
        said = json.loads(Path(__file__).with_name("script.json").read_text())[candles.symbol]
        rows = [said.get(str(time), (0, 0.0)) for time in candles.time.tolist()]
        return Signals(np.array([side for side, _ in rows], np.int8), np.array([trust for _, trust in rows]))
"""


def flat(price: float, count: int = 1, wick: float = 0.11) -> list[tuple[float, float, float, float]]:
    """Bars that go nowhere."""
    return [(price, round(price + wick, 2), round(price - wick, 2), price)] * count


def path(*closes: float, begin: float = 100.0, wick: float = 0.11) -> list[tuple[float, float, float, float]]:
    """Bars that open where the last one closed."""
    bars, before = [], begin
    for close in closes:
        high, low = max(before, close) + wick, min(before, close) - wick
        bars.append((before, round(high, 2), round(low, 2), close))
        before = close
    return bars


def candles_of(symbol: str, bars: Bars, quiet: Bars, volume: float = 500_000.125) -> Candles:
    rows = np.array([*quiet, *bars], float)
    time = START + np.arange(len(rows), dtype=np.int64) * HOUR
    opened, high, low, close = rows.T
    return Candles(symbol, "1h", time, opened, high, low, close, np.full(len(rows), volume))


@dataclass
class Show:
    """One bot on one exchange; `restart` gives it a new life on the same books."""

    local: Local
    folder: Path
    log: list[str]
    bot: Bot = field(init=False)
    daemon: Daemon = field(init=False)
    jobs: Jobs = field(init=False)
    _life: ExitStack = field(default_factory=ExitStack)
    lives: int = 0

    def start(self) -> None:
        self.lives += 1
        settings = load_settings([self.folder / "bot.yaml"], {}, {})
        with pytest.MonkeyPatch.context() as patch:  # the exchange is the test's: no life may stop it at its end
            theirs = partial(local_process.running_exchange, owner=False)
            patch.setattr(local_process, "running_exchange", lambda state, text, owner: theirs(state, text))
            self.bot = self._life.enter_context(build_bot(settings, f"life{self.lives}"))
        self.daemon = Daemon(self.bot)
        self.jobs = Jobs(self.bot, self.daemon.queue, lambda: False)
        around = Surroundings(self.bot.clock.now(), _now, lambda seconds: None, new_bot_id)
        recover(self.bot.trader, self.bot.quote, around)

    def restart(self) -> None:
        """As after a kill: nothing is said goodbye to."""
        self._life.close()
        self.start()

    def end(self) -> None:
        self._life.close()

    def step(self, count: int = 1) -> None:
        """So many bars close and are dealt with, as the daemon does it."""
        for _ in range(count):
            self.jobs.on_bar_close()
            while True:
                try:
                    happened = self.daemon.queue.get_nowait()
                except Empty:
                    break
                self.daemon._deal_with(happened)
                self.daemon.queue.task_done()
            assert "defect" not in self.bot.trader.memory.degraded, self.bot.trader.memory.degraded

    def play(self) -> None:
        """To the end of the candles."""
        try:
            while True:
                self.step()
        except MarketEnded:
            self.agree()

    def tell(self, name: str) -> str:
        """A command of the user."""
        command = Command(f"{name}-{self.bot.trader.memory.time}", name, _now())
        return obey(self.bot.trader, command, _now())

    # ── what is there ──────────────────────────────────────────────────────────────────────────────────────────────

    def trades(self) -> list[Trade]:
        with self.bot.store.reading() as tx:
            return tx.find(Trade, book="account")

    def orders(self) -> list[Order]:
        with self.bot.store.reading() as tx:
            return tx.find(Order)

    def fills(self) -> list[Fill]:
        with self.bot.store.reading() as tx:
            return tx.find(Fill)

    def decisions(self, symbol: str = "BTC/USDT") -> dict[int, Decision]:
        """By the number of the crafted bar."""
        with self.bot.store.reading() as tx:
            return {(d.time - FIRST) // HOUR: d for d in tx.find(Decision, symbol=symbol)}

    def outcomes(self, symbol: str = "BTC/USDT") -> dict[int, str]:
        return {bar: decision.outcome for bar, decision in self.decisions(symbol).items()}

    def logged(self, *words: str) -> list[str]:
        """Lines of the log with all these words."""
        return [line for line in self.log if all(word in line for word in words)]

    def agree(self) -> None:
        """The exchange and the bot hold the same, to the last decimal."""
        assert self.local.exchange is not None
        theirs = {c: b.total for c, b in self.local.exchange.venue.balances().items() if b.total}
        ours = {c: amount for c, amount in self.bot.trader.desk.account.balances.items() if amount}
        assert ours == theirs
        assert not self.bot.trader.memory.quarantine


@contextmanager
def crafted(
    folder: Path,
    bars: Mapping[str, Bars],
    scripts: Mapping[str, Script],
    *,
    quiet: Mapping[str, Bars] | None = None,
    volume: float = 500_000.125,
    **settings: Any,
) -> Iterator[Show]:
    """Everything wired up as for `trading-bot run`, the exchange in a thread of this process."""
    before = {symbol: (quiet or {}).get(symbol, flat(100.0, QUIET)) for symbol in bars}
    candles = {symbol: candles_of(symbol, rows, before[symbol], volume) for symbol, rows in bars.items()}
    strategies = folder / "strategies"
    strategies.mkdir()
    (strategies / "scripted.py").write_text(_STRATEGY)
    (strategies / "script.json").write_text(json.dumps({s: _said(scripts.get(s, {})) for s in bars}))
    risk = {"risk_per_trade": 0.0, "var_limit": 0.0, "atr_stop_multiple": 0.0, "daily_loss_limit": 0.0,
            "cooldown_bars": 0, "drawdown_reduce": 0.0, "drawdown_halt": 0.0, "drawdown_flatten": 0.0,
            **settings.pop("risk", {})}  # fmt: skip
    wanted = {
        "bot_id": "crafted",
        "data_dir": str(folder / "data"),
        "strategy_path": str(strategies),
        "logfile": str(folder / "bot.log"),
        "market": {"history": QUIET},
        "risk": risk,
        **settings,
    }
    (folder / "bot.yaml").write_text(yaml.safe_dump(wanted))
    log: list[str] = []
    sink = logger.add(lambda line: log.append(str(line)), format="{message}", level="DEBUG")
    paper = PaperConfig(balances={"USDT": Decimal(10_000)})
    try:
        with local_exchange(folder / "data" / "exchange", candles, history=QUIET, paper=paper) as local:
            show = Show(local, folder, log)
            show.start()
            try:
                show.step()  # the newest of the quiet bars
                yield show
            finally:
                show.end()
    finally:
        logger.remove(sink)


def _said(script: Script) -> dict[str, tuple[int, float]]:
    return {
        str(FIRST + bar * HOUR): said if isinstance(said, tuple) else (said, 1.0 if said else 0.0)
        for bar, said in script.items()
    }


def _now() -> datetime:
    return datetime.now(UTC)
