"""Many strategies, one signal: weights follow the market's regime and each strategy's record.

target = base weights of the regime (the table, or what strategies declare) × a multiplier of the record, floored and
normalised; every bar the weights move towards it by at most `max_step`. The arithmetic stands in `weight_step.py`.
With `ensemble.method: hedge` the target is multiplied once more, by n × the weights that `hedge.py` learned from what
the strategies earned bar by bar: 1 while all are alike. `hedge.py`'s bound is one for those weights by themselves.
With `ensemble.method: trm` it is multiplied by the factors that a trained model gives the bar (`trust.py`) instead.
With `ensemble.method: equal` all weigh the same, whatever regime and record say: what the others are measured against.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from trading_bot.domain.market import Floats, Regime
from trading_bot.learn.affinity import TABLE, Affinity
from trading_bot.learn.config import EnsembleConfig
from trading_bot.learn.hedge import HedgeState, advance
from trading_bot.learn.performance_tracker import PerformanceTracker, StrategyMetrics
from trading_bot.learn.regime_detector import RegimeDetector, RegimeReading
from trading_bot.learn.trust import Trust
from trading_bot.learn.weight_step import on_floored_simplex, performance_terms, step_towards

__all__ = ["DynamicEnsemble", "PerformanceTracker", "RegimeDetector", "RegimeReading", "StrategyMetrics", "WeightShift"]

_METRICS = ("win rate", "profit factor", "max drawdown", "losing streak")
_TERMS = (*_METRICS, "hedge", "trm")  # logarithms, whose sum's exponential multiplies the base
_MOST_GAIN = 1e6  # what is beyond cannot be a ratio of a bar
_NOTABLE = 0.05  # a change of a multiplier's logarithm worth a word beside a change of regime


class Affine(Protocol):
    """As much of a strategy as the ensemble needs."""

    @property
    def name(self) -> str: ...

    @property
    def affinity(self) -> Affinity: ...


class Detector(Protocol):
    """As much of a regime detector as the ensemble needs."""

    def detect(self, candles: Any) -> RegimeReading: ...


@dataclass(frozen=True, slots=True)
class WeightShift:
    """Weights that moved far enough since the last shift to be told about, and what drove them."""

    old: Mapping[str, float]
    new: Mapping[str, float]
    because: str


class DynamicEnsemble:
    """Weighs strategies by regime and record; adds their signals up. One for each symbol.

    Parameters
    ----------
    strategies
        Names, or strategies that declare their affinity. A name alone must stand in `TABLE` or `affinities`.
    regime_detector
        Asked by `update_weights`.
    config
        Method, threshold, floor, speed and trust.
    affinities
        Base weight in each regime by strategy name; goes before what a strategy declares itself.

    Raises
    ------
    ValueError
        If there is no strategy, one twice, an unknown name, or more strategies than the floor leaves room for.
    """

    def __init__(
        self,
        strategies: Sequence[str | Affine],
        regime_detector: Detector,
        config: EnsembleConfig | None = None,
        affinities: Mapping[str, Affinity] | None = None,
    ) -> None:
        self.config = config or EnsembleConfig()
        self.regime_detector = regime_detector
        self.names = tuple(one if isinstance(one, str) else one.name for one in strategies)
        _check_names(self.names, self.config.floor)
        given = affinities or {}
        self._base = {
            regime: np.array([_weight_in(regime, one, given) for one in strategies], np.float64) for regime in Regime
        }
        self._weights: Floats = np.full(len(self.names), 1.0 / len(self.names))
        self._reported = self._weights
        self._regime: Regime | None = None  # None until the first update
        self._terms = np.zeros((len(self.names), len(_TERMS)))  # regime and terms the last told shift ended at
        self._moving = False
        self._hedge = HedgeState.even(len(self.names)) if self.config.method == "hedge" else None
        self._trust: Trust | None = None  # of the newest bar
        self.last_change: WeightShift | None = None

    @property
    def weights(self) -> dict[str, float]:
        """Weight by strategy; equal before the first update."""
        return self._by_name(self._weights)

    def update_weights(
        self,
        market_data: Any,
        performance_metrics: Mapping[str, StrategyMetrics | Mapping[str, Any]],
        *,
        gains: Mapping[str, float] | None = None,
        trust: Trust | None = None,
    ) -> dict[str, float]:
        """Detect the regime of `market_data` (Candles or an OHLCV DataFrame), then `reweigh`."""
        return self.reweigh(self.regime_detector.detect(market_data), performance_metrics, gains, trust)

    def reweigh(
        self,
        reading: RegimeReading,
        performance_metrics: Mapping[str, StrategyMetrics | Mapping[str, Any]],
        gains: Mapping[str, float] | None = None,
        trust: Trust | None = None,
    ) -> dict[str, float]:
        """Move the weights one step towards what `reading` and the records ask for.

        Parameters
        ----------
        performance_metrics
            Record by strategy: `StrategyMetrics`, or a mapping with its fields (without `trades`: a full window). A
            strategy without a record counts as neither good nor bad.
        gains
            What each strategy earned on the bar before, a ratio net of fees; 0 for those left out. Only the method
            hedge learns from them; None: nothing is known of that bar, and nothing learned.
        trust
            What a model says of this bar; only the method trm listens. None: nothing, all factors are 1.

        Returns
        -------
        dict
            Weight by strategy: each ≥ the floor, sum 1. The first call goes straight to its target; later ones move
            no weight by more than `max_step`, unless the method is equal. `last_change` tells of a change worth a
            line in the log.

        Raises
        ------
        ValueError
            If a record, gain or factor is of an unknown strategy, or holds a value that cannot be.
        """
        records = {
            name: _record(name, given, self.names, self.config.window) for name, given in performance_metrics.items()
        }
        earned = None if gains is None else _earned(gains, self.names)
        regime = Regime(reading.regime)
        if self.config.method == "equal":
            self._weights = np.full(len(self.names), 1.0 / len(self.names))
            self._note_change(regime, np.zeros_like(self._terms), records, settled=True)
            return self.weights
        terms = np.zeros((len(self.names), len(_TERMS)))
        terms[:, : len(_METRICS)] = [self._terms_of(records.get(name)) for name in self.names]
        if self._hedge is not None:
            if earned is not None:
                self._hedge = advance(self._hedge, earned, self.config.hedge_rate, self.config.hedge_share)
            terms[:, _TERMS.index("hedge")] = np.log(len(self.names) * self._hedge.weights)
        self._trust = trust if self.config.method == "trm" else None
        if self._trust is not None:
            terms[:, _TERMS.index("trm")] = np.log(_factors(self._trust, self.names))
        multipliers = np.exp(terms.sum(axis=1))
        target = on_floored_simplex(on_floored_simplex(self._base[regime], 0.0) * multipliers, self.config.floor)
        first = self._regime is None
        self._weights = target if first else step_towards(self._weights, target, self.config.max_step)
        self._note_change(regime, terms, records, settled=self._weights is target)
        return self.weights

    def get_weighted_signal(self, signals: Mapping[str, int], confidences: Mapping[str, float]) -> tuple[int, float]:
        """The ensemble's signal, −1, 0 or +1, and its confidence |score|.

        The signal is the sign of the score if |score| reaches the threshold, else 0.

        Raises
        ------
        ValueError
            See `score`.
        """
        score = self.score(signals, confidences)
        side = 0 if abs(score) < self.config.threshold or score == 0.0 else int(math.copysign(1, score))
        return side, abs(score)

    def score(self, signals: Mapping[str, int], confidences: Mapping[str, float]) -> float:
        """Σ weight · side · confidence / Σ weight over the strategies present, in [−1, 1]; 0 if none is.

        Raises
        ------
        ValueError
            If a strategy is unknown, has a signal without a confidence or the reverse, a side outside {−1, 0, 1}, or
            a confidence outside [0, 1].
        """
        parts = self._parts(signals, confidences)
        weight = sum(weight for weight, _ in parts.values())
        total = sum(part for _, part in parts.values())
        return max(-1.0, min(1.0, total / weight)) if weight > 0 else 0.0

    def shares(self, signals: Mapping[str, int], confidences: Mapping[str, float]) -> dict[str, float]:
        """How much of the score came from each strategy that pulled its way: positive, sum 1; empty at score 0."""
        parts = self._parts(signals, confidences)
        direction = math.copysign(1.0, sum(part for _, part in parts.values()))
        pulled = {name: part * direction for name, (_, part) in parts.items() if part * direction > 0}
        total = sum(pulled.values())
        if not sum(part for _, part in parts.values()):
            return {}
        return {name: part / total for name, part in pulled.items()}

    def snapshot(self) -> dict[str, Any]:
        """Everything that depends on the past, as JSON; `restore` makes the same ensemble of it, to the last bit."""
        return {
            "weights": self.weights,
            "reported": self._by_name(self._reported),
            "regime": None if self._regime is None else self._regime.value,
            "terms": {name: row.tolist() for name, row in zip(self.names, self._terms, strict=True)},
            "moving": self._moving,
            "hedge": None
            if self._hedge is None
            else {
                "weights": self._by_name(self._hedge.weights),
                "variance": self._hedge.variance,
                "bars": self._hedge.bars,
            },
        }

    def restore(self, snapshot: Mapping[str, Any]) -> bool:
        """Take a snapshot up; False, and nothing done, if it is of other strategies (they then start afresh).

        One made without hedge leaves hedge as new; one made with it gives what the table needs.
        """
        if set(snapshot["weights"]) != set(self.names):
            return False
        self._weights = np.array([snapshot["weights"][name] for name in self.names], np.float64)
        self._reported = np.array([snapshot["reported"][name] for name in self.names], np.float64)
        self._regime = None if snapshot["regime"] is None else Regime(snapshot["regime"])
        unknown_then = (0.0,) * len(_TERMS)  # terms that were new since
        terms = [(*snapshot["terms"][name], *unknown_then)[: len(_TERMS)] for name in self.names]
        self._terms = np.array(terms, np.float64)
        self._moving = bool(snapshot["moving"])
        if self._hedge is not None:
            self._hedge = _hedge_of(snapshot.get("hedge"), self.names)
        self.last_change = None
        return True

    def _by_name(self, weights: Floats) -> dict[str, float]:
        return dict(zip(self.names, weights.tolist(), strict=True))

    def _terms_of(self, record: StrategyMetrics | None) -> tuple[float, ...]:
        if record is None:
            return (0.0,) * len(_METRICS)
        return performance_terms(
            float(record.trades),
            _nan(record.win_rate),
            _nan(record.profit_factor),
            _nan(record.max_drawdown),
            float(record.consecutive_losses),
            float(self.config.min_trades),
        )

    def _note_change(
        self, regime: Regime, terms: Floats, records: Mapping[str, StrategyMetrics], *, settled: bool
    ) -> None:
        """Set `last_change` if the weights left the last reported ones by more than the configured change."""
        told = bool(np.abs(self._weights - self._reported).max() > self.config.log_change + 1e-9)
        self.last_change = None
        if told:
            because = self._because(regime, terms, records)
            self.last_change = WeightShift(self._by_name(self._reported), self.weights, because)
            self._reported = self._weights
        if self._regime is None or (settled and (told or self._moving)):
            self._regime, self._terms = regime, terms
        self._moving = not settled

    def _because(self, regime: Regime, terms: Floats, records: Mapping[str, StrategyMetrics]) -> str:
        if self.config.method == "equal":
            return "equal weights"
        if self._regime is None:
            first = f"first weights, regime {regime}"
            return ", ".join([first, *(self._product(regime, terms) if self.config.method == "trm" else [])])
        causes = [] if regime is self._regime else [f"regime {self._regime}->{regime}"]
        moved = np.abs(terms - self._terms)
        strategy, term = np.unravel_index(int(moved.argmax()), moved.shape)
        if moved[strategy, term] > (_NOTABLE if causes else 0.0):
            name = self.names[int(strategy)]
            what = _TERMS[int(term)]
            factor = math.exp(terms[strategy, term])
            told = _told(what, records.get(name)) if what in _METRICS else f"{what} {factor:.2f}"
            causes.append(f"{name} {told}")
        causes = causes or [f"regime {regime}"]
        return ", ".join([*causes, *self._product(regime, terms)])

    def _product(self, regime: Regime, terms: Floats) -> list[str]:
        """With hedge or trm: the three factors of the weight that moved furthest since the last told shift; of a model
        what it said."""
        method = self.config.method
        if method not in _TERMS:
            return []
        furthest = int(np.abs(self._weights - self._reported).argmax())
        base = on_floored_simplex(self._base[regime], 0.0)[furthest]
        record = math.exp(terms[furthest, : len(_METRICS)].sum())
        factor = math.exp(terms[furthest, _TERMS.index(method)])
        product = f"{self.names[furthest]} = {base:.2f} regime x {record:.2f} record x {factor:.2f} {method}"
        if self._trust is None or not self._trust.words:
            return [product]
        return [product, f"{method} {self._trust.words}"]

    def _parts(self, signals: Mapping[str, int], confidences: Mapping[str, float]) -> dict[str, tuple[float, float]]:
        """Weight and weight · side · confidence by strategy, in the ensemble's own order whatever the mapping's."""
        for name in (*signals, *confidences):
            if name not in self.names:
                raise ValueError(_unknown("signals name", name, self.names))
        parts: dict[str, tuple[float, float]] = {}
        for name, weight in zip(self.names, self._weights.tolist(), strict=True):
            if name not in signals and name not in confidences:
                continue
            if name not in signals or name not in confidences:
                lacking = "confidence" if name in signals else "signal"
                raise ValueError(f"strategy {name!r} has no {lacking}; give both, or leave the strategy out of both")
            side, confidence = signals[name], confidences[name]
            if side not in (-1, 0, 1):
                raise ValueError(f"the signal of {name!r} should be -1, 0 or 1, is {side!r}")
            if not 0.0 <= confidence <= 1.0:
                raise ValueError(f"the confidence of {name!r} should be from 0 to 1, is {confidence!r}")
            parts[name] = (weight, weight * float(side) * float(confidence))
        return parts


def _check_names(names: tuple[str, ...], floor: float) -> None:
    if not names:
        raise ValueError("an ensemble wants at least one strategy, found none")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"strategy {twice[0]!r} is in the ensemble twice; list each once")
    if floor * len(names) > 1.0 + 1e-12:
        raise ValueError(
            f"ensemble.floor {floor:g} for {len(names)} strategies adds up to more than 1; "
            f"wanted a floor of at most {1 / len(names):.4g}"
        )


def _weight_in(regime: Regime, strategy: str | Affine, given: Mapping[str, Affinity]) -> float:
    name = strategy if isinstance(strategy, str) else strategy.name
    if name in given:
        affinity = given[name]
    elif not isinstance(strategy, str):
        affinity = strategy.affinity
    elif name in TABLE:
        affinity = TABLE[name]
    else:
        raise ValueError(
            _unknown("strategies name", name, tuple(TABLE))
            + "; pass the strategy itself, or its weight in each regime by `affinities`"
        )
    if regime not in affinity:
        raise ValueError(f"the affinity of {name!r} lacks regime {regime}; wanted all of {', '.join(Regime)}")
    weight = float(affinity[regime])
    if not math.isfinite(weight) or weight < 0:
        raise ValueError(f"the affinity of {name!r} for {regime} should be a number ≥ 0, is {weight!r}")
    return weight


def _record(
    name: str, given: StrategyMetrics | Mapping[str, Any], names: tuple[str, ...], window: int
) -> StrategyMetrics:
    if name not in names:
        raise ValueError(_unknown("performance_metrics name", name, names))
    if isinstance(given, StrategyMetrics):
        record = given
    else:
        fields = tuple(field.name for field in dataclasses.fields(StrategyMetrics))
        for key in given:
            if key not in fields:
                raise ValueError(_unknown(f"performance_metrics of {name!r} name", str(key), fields))
        record = StrategyMetrics(**{"trades": window, **given})
    for field, low, high in (
        ("trades", 0.0, math.inf),
        ("win_rate", 0.0, 1.0),
        ("profit_factor", 0.0, math.inf),
        ("max_drawdown", 0.0, 1.0),
        ("consecutive_losses", 0.0, math.inf),
    ):
        value = getattr(record, field)
        if value is None and field not in ("trades", "consecutive_losses"):
            continue
        if value is None or not low <= value <= high or math.isinf(value):
            wanted = f"from {low:g} to {high:g}" if high < math.inf else f"finite and ≥ {low:g}"
            raise ValueError(f"{field} of {name!r} should be {wanted}, or None where undefined; is {value!r}")
    return record


def _earned(gains: Mapping[str, float], names: tuple[str, ...]) -> Floats:
    for name, gain in gains.items():
        if name not in names:
            raise ValueError(_unknown("gains name", name, names))
        if not abs(gain) <= _MOST_GAIN:
            raise ValueError(
                f"the gain of {name!r} should be a ratio such as 0.01, is {gain!r}; leave out what is unknown"
            )
    return np.array([gains.get(name, 0.0) for name in names], np.float64)


def _factors(trust: Trust, names: tuple[str, ...]) -> Floats:
    for name, factor in trust.factors.items():
        if name not in names:
            raise ValueError(_unknown("trust name", name, names))
        if not 0.0 < factor < math.inf:
            raise ValueError(f"the factor of {name!r} should be a number above 0 such as 1.5, is {factor!r}")
    return np.array([trust.factors.get(name, 1.0) for name in names], np.float64)


def _hedge_of(saved: Mapping[str, Any] | None, names: tuple[str, ...]) -> HedgeState:
    if saved is None:
        return HedgeState.even(len(names))
    weights = np.array([saved["weights"][name] for name in names], np.float64)
    return HedgeState(weights, float(saved["variance"]), int(saved["bars"]))


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"{what} {name!r}, which is not known; {hint}known: {', '.join(known)}"


def _told(term: str, record: StrategyMetrics | None) -> str:
    if record is None:
        return "without a record"
    value = {
        "win rate": record.win_rate,
        "profit factor": record.profit_factor,
        "max drawdown": record.max_drawdown,
        "losing streak": record.consecutive_losses,
    }[term]
    return f"{term} undefined" if value is None else f"{term} {value:.4g}"


def _nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
