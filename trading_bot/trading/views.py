"""What the bot thinks of one symbol at the close of one bar: regime, weights, signals, score. Nothing here acts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from trading_bot.domain.journal import RegimeChange, WeightChange
from trading_bot.domain.market import Candles
from trading_bot.learn.dynamic_ensemble import DynamicEnsemble, RegimeDetector
from trading_bot.learn.performance_tracker import StrategyMetrics
from trading_bot.learn.trust import Trust
from trading_bot.trading.strategy import SILENT
from trading_bot.trading.strategy_panel import Answers, StrategyFailure, StrategyPanel

NOTED = "ensemble.trm"  # a selector's key in a decision's notes and model versions: with a dot, as no strategy is named


class TrustSource(Protocol):
    """As much of a trained selector as an outlook needs (`strategy_selector.py`, which loads PyTorch)."""

    @property
    def model_version(self) -> str | None: ...

    def trust(self, candles: Candles, strategies: Sequence[str]) -> Trust: ...


@dataclass(frozen=True, slots=True)
class View:
    """One symbol's outlook. `side` is the ensemble's target: +1 be long, -1 be flat, 0 keep what is held."""

    symbol: str
    candles: Candles
    regime: str
    confidence: float
    regime_features: Mapping[str, float]
    weights: Mapping[str, float]
    signals: Mapping[str, tuple[int, float]]
    score: float
    side: int
    shares: Mapping[str, float]
    regime_change: RegimeChange | None = None
    weight_change: WeightChange | None = None
    notes: Mapping[str, str] = field(default_factory=dict)  # strategy -> why it is silent or cautious
    new_notes: Mapping[str, str] = field(default_factory=dict)  # those that were not the same at the bar before
    model_versions: Mapping[str, str] = field(default_factory=dict)  # strategy -> id of the model it answered with
    failures: Sequence[StrategyFailure] = ()
    unseen: int = 1  # newest candles that were not looked at before
    note: str = ""  # why nothing could be thought

    @classmethod
    def blind(cls, symbol: str, candles: Candles, note: str) -> View:
        """No opinion: a trade is watched all the same, its stop does not need one."""
        return cls(symbol, candles, "", 0.0, {}, {}, {}, 0.0, 0, {}, note=note)

    def face(self) -> dict[str, Any]:
        """What `status` shows of this view."""
        return {
            "regime": self.regime,
            "confidence": self.confidence,
            "weights": dict(self.weights),
            "score": self.score,
            "close": float(self.candles.close[-1]),
            "timeframe": self.candles.timeframe,
        }


def shares_of(weights: Mapping[str, float], signals: Mapping[str, tuple[int, float]]) -> dict[str, float]:
    """How much of a long score came from each strategy that voted for it; the shares sum to 1."""
    votes = {name: weights.get(name, 0.0) * confidence for name, (side, confidence) in signals.items() if side > 0}
    total = sum(votes.values())
    return {name: vote / total for name, vote in votes.items()} if total > 0 else {}


@dataclass(slots=True)
class Outlook:
    """Forms the views of one symbol, bar after bar; remembers its regime and weights."""

    symbol: str
    panel: StrategyPanel
    detector: RegimeDetector
    ensemble: DynamicEnsemble
    selector: TrustSource | None = None  # whom the ensemble's method trm listens to
    regime: str = ""
    regime_bars: int = 0
    _noted: Mapping[str, str] = field(default_factory=dict)  # of the latest view; told anew after a restart

    def look(
        self, candles: Candles, metrics: Mapping[str, StrategyMetrics], gains: Mapping[str, float], run_id: str
    ) -> View:
        """The view after the newest of `candles`; `metrics` and `gains` are those of the bar before."""
        time = int(candles.time[-1])
        reading = self.detector.detect(candles)
        change = None
        if reading.regime.value != self.regime:
            change = RegimeChange(
                self.symbol, time, self.regime, reading.regime.value, reading.confidence, dict(reading.features),
                self.regime_bars, run_id,
            )  # fmt: skip
            self.regime, self.regime_bars = reading.regime.value, 0
        self.regime_bars += 1
        trust = None if self.selector is None else self.selector.trust(candles, self.ensemble.names)
        weights = self.ensemble.reweigh(reading, metrics, gains, trust)
        moved = self.ensemble.last_change
        answers = self.panel.answers(candles)
        sides = {name: side for name, (side, _) in answers.voices.items()}
        confidences = {name: confidence for name, (_, confidence) in answers.voices.items()}
        side, _ = self.ensemble.get_weighted_signal(sides, confidences)
        notes, new_notes = self._notes(answers, trust)
        return View(
            symbol=self.symbol,
            candles=candles,
            regime=self.regime,
            confidence=reading.confidence,
            regime_features=reading.features,
            weights=weights,
            signals=answers.signals,
            score=self.ensemble.score(sides, confidences),
            side=side,
            shares=shares_of(weights, answers.signals),
            regime_change=change,
            weight_change=None
            if moved is None
            else WeightChange(self.symbol, time, moved.old, moved.new, moved.because, run_id),
            notes=notes,
            new_notes=new_notes,
            model_versions=self._model_versions(answers),
            failures=tuple(self.panel.failures),
        )

    def _notes(self, answers: Answers, trust: Trust | None) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """All notes, and those that are new; what a selector says, and not why it is silent, is told with the weights
        it moves."""
        notes = dict(answers.notes) if trust is None else {**answers.notes, NOTED: trust.words}
        before, self._noted = self._noted, notes
        new = {name: note for name, note in notes.items() if before.get(name) != note}
        if not notes.get(NOTED, "").startswith(SILENT):
            new.pop(NOTED, None)
        return notes, new

    def _model_versions(self, answers: Answers) -> Mapping[str, str]:
        version = None if self.selector is None else self.selector.model_version
        return answers.model_versions if version is None else {**answers.model_versions, NOTED: version}

    def snapshot(self) -> dict[str, Any]:
        """Regime and weights, JSON-able."""
        return {"regime": self.regime, "bars": self.regime_bars, "ensemble": self.ensemble.snapshot()}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from `snapshot`."""
        self.regime, self.regime_bars = saved["regime"], saved["bars"]
        self.ensemble.restore(saved["ensemble"])  # weights of other strategies than today's are not taken up
