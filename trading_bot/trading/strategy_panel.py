"""All strategies asked about the same candles; one that keeps failing is switched off, the others go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trading_bot.domain.market import Candles
from trading_bot.trading.strategy import Signals, Strategy, in_one_line, read_signals

PATIENCE = 3  # failures in a row, on one symbol, before a strategy is switched off


@dataclass(frozen=True, slots=True)
class StrategyFailure:
    """A strategy raised or returned rubbish. `switched_off`: it will not be asked again in this run."""

    strategy: str
    symbol: str
    message: str
    switched_off: bool


class StrategyPanel:
    """Asks strategies, one after another, in a fixed order.

    Candles keep indicators (`Candles.once`), so what several strategies need is computed once a bar. Which strategies
    are switched off is forgotten at a restart: whoever mended the file wants it asked again.
    """

    def __init__(self, strategies: Sequence[Strategy]) -> None:
        self.strategies = tuple(strategies)
        self.failures: list[StrategyFailure] = []  # of the latest call
        self.switched_off: set[str] = set()
        self._in_a_row: dict[tuple[str, str], tuple[int, int]] = {}  # failures, and the bar of the last one

    def signals(self, candles: Candles) -> dict[str, Signals]:
        """Every row's signals, by name, of the strategies that answered; `failures` says what became of the others."""
        self.failures = []
        answers: dict[str, Signals] = {}
        for strategy in self.strategies:
            if strategy.name in self.switched_off:
                continue
            key = (strategy.name, candles.symbol)
            try:
                answers[strategy.name] = read_signals(strategy, candles)
            except (Exception, SystemExit) as error:  # anything a user's code can do, but Ctrl-C
                bar = int(candles.time[-1]) if len(candles) else -1
                count, last = self._in_a_row.get(key, (0, None))
                if bar != last:  # the same bar told again, because the database failed, is one failure
                    count += 1
                self._in_a_row[key] = (count, bar)
                if count >= PATIENCE:
                    self.switched_off.add(strategy.name)
                self.failures.append(
                    StrategyFailure(
                        strategy.name, candles.symbol, in_one_line(error), strategy.name in self.switched_off
                    )
                )
            else:
                self._in_a_row.pop(key, None)
        return answers

    def answers(self, candles: Candles) -> dict[str, tuple[int, float]]:
        """Side and confidence at the newest candle, by name; empty without candles."""
        if not len(candles):
            self.failures = []
            return {}
        return {name: (int(s.side[-1]), float(s.confidence[-1])) for name, s in self.signals(candles).items()}
