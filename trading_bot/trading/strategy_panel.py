"""All strategies asked about the same candles; one that keeps failing is switched off, the others go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trading_bot.domain.market import Candles
from trading_bot.trading.strategy import SILENT, Strategy, in_one_line, model_version_of, read_latest

PATIENCE = 3  # failures in a row, on one symbol, before a strategy is switched off


@dataclass(frozen=True, slots=True)
class StrategyFailure:
    """A strategy raised or returned rubbish. `switched_off`: it will not be asked again in this run."""

    strategy: str
    symbol: str
    message: str
    switched_off: bool


@dataclass(frozen=True, slots=True)
class Answers:
    """What was said of the newest candle, each by strategy; only those that answered are there."""

    signals: Mapping[str, tuple[int, float]]  # side and confidence
    notes: Mapping[str, str]  # why it is silent or cautious, of those that say so
    model_versions: Mapping[str, str]  # id of the model it answered with, of those that have one

    @property
    def voices(self) -> dict[str, tuple[int, float]]:
        """The signals that count: one that keeps silent, and says so, leaves its weight to the others."""
        return {name: said for name, said in self.signals.items() if not self.notes.get(name, "").startswith(SILENT)}


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

    def answers(self, candles: Candles) -> Answers:
        """What is said of the newest candle; nothing without candles. `failures` says what became of those missing."""
        self.failures = []
        signals: dict[str, tuple[int, float]] = {}
        notes: dict[str, str] = {}
        model_versions: dict[str, str] = {}
        if not len(candles):
            return Answers(signals, notes, model_versions)
        for strategy in self.strategies:
            if strategy.name in self.switched_off:
                continue
            try:
                said, version = read_latest(strategy, candles), model_version_of(strategy)
            except (Exception, SystemExit) as error:  # anything a user's code can do, but Ctrl-C
                self._failed(strategy.name, candles, error)
                continue
            self._in_a_row.pop((strategy.name, candles.symbol), None)
            signals[strategy.name] = (int(said.side[0]), float(said.confidence[0]))
            if said.note:
                notes[strategy.name] = said.note
            if version is not None:
                model_versions[strategy.name] = version
        return Answers(signals, notes, model_versions)

    def _failed(self, name: str, candles: Candles, error: BaseException) -> None:
        """Note a failure; after `PATIENCE` of them the strategy is asked no more."""
        key, bar = (name, candles.symbol), int(candles.time[-1])
        count, last = self._in_a_row.get(key, (0, None))
        if bar != last:  # the same bar told again, because the database failed, is one failure
            count += 1
        self._in_a_row[key] = (count, bar)
        if count >= PATIENCE:
            self.switched_off.add(name)
        self.failures.append(StrategyFailure(name, candles.symbol, in_one_line(error), name in self.switched_off))
