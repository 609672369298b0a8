"""Challengers: models fitted on past signals, judged on later ones against the champion, purged and embargoed.

Rows are cut in time, 50 % to fit, 20 % to validate (early stopping, calibration), 30 % to test, and of the first two
everything is dropped whose outcome was not known a horizon before the next part begins. The challenger and what it
would replace, the champion or the rule's own confidence calibrated on the same rows, then forecast the same test rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trading_bot.domain.market import Floats, timeframe_ms
from trading_bot.learn.config import LearningConfig
from trading_bot.learn.logistic import fit_logistic
from trading_bot.learn.meta_labels import META_FEATURES, SignalHistory
from trading_bot.learn.meta_model import MetaModel, design, own_columns, scaled
from trading_bot.learn.parallel_trainer import ParallelStrategyTrainer
from trading_bot.learn.strategy_report import StrategyTrainingReport
from trading_bot.learn.training_config import Executor, TrainingConfig
from trading_bot.training.scoring import FEWEST, block_interval

FIT, VALIDATE = 0.5, 0.2  # shares of the rows; what is left is the test
FEWEST_FIT, FEWEST_VALIDATE = 200, 100  # rows
COVERAGE = 0.99  # of a challenger's interval: strategies are trained again and again, and each time one may be lucky
FEWEST_BLOCKS = 10  # of two horizons each, that a test has to have
MOST_BLOCKS = 20  # no more in a test: what a market does lasts longer than a signal
LIVE_WIDTH = 2.576  # standard errors: 99 %, since a champion is looked at again and again


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one strategy's training: `outcome` is one of promoted rejected too_little failed."""

    strategy: str
    outcome: str
    reason: str
    model: MetaModel | None = None
    scores: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class LiveScore:
    """How a champion did on signals that came after everything it has seen.

    Attributes
    ----------
    bars : with such a signal
    gain : share of the baseline's log loss it took off there
    low : least gain that its validation lets expect of so many bars
    """

    bars: int
    gain: float
    low: float

    @property
    def fallen(self) -> bool:
        """Whether the gain has left the interval downwards."""
        return self.gain < self.low

    def words(self) -> str:
        """For a log line."""
        return (
            f"log loss {_beside(self.gain)} the rule's own confidence on {self.bars} bars since "
            f"(gain {self.gain:+.2%}; its test lets expect at least {self.low:+.2%})"
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """A history cut in time; `scale` is mean and standard deviation of the fitted rows' features."""

    fit: SignalHistory
    validate: SignalHistory
    test: SignalHistory
    scale: tuple[Floats, Floats]

    def design(self, rows: SignalHistory) -> Floats:
        return design(scaled(rows.X, *self.scale), rows.side, rows.own)


def retrain(
    histories: Mapping[str, SignalHistory],
    champions: Mapping[str, MetaModel],
    timeframe: str,
    symbols: tuple[str, ...],
    config: LearningConfig,
    executor: Executor = "thread",
    stopping: Callable[[], bool] = lambda: False,
) -> dict[str, Verdict]:
    """Train a challenger for every strategy and judge it. Pure: the same arguments give the same models, bit for bit.

    Parameters
    ----------
    histories : strategy → its signals with an outcome known at the date that is meant
    champions : strategy → the model in use, where there is one; one of another timeframe, horizon or other symbols was
        asked something else and is no opponent
    executor : "thread" and "process" do the same arithmetic
    stopping : asked while training; when it says so, TrainingStopped is raised
    """
    asked = (timeframe, config.horizon, symbols)
    champions = {name: model for name, model in champions.items() if model.answers(*asked)}
    verdicts: dict[str, Verdict] = {}
    parts: dict[str, _Parts] = {}
    for name, history in histories.items():
        cut, lacking = _cut(history, champions.get(name), config.horizon, timeframe_ms(timeframe))
        if cut is None:
            verdicts[name] = Verdict(name, "too_little", lacking)
        else:
            parts[name] = cut
    if parts:
        data = {
            name: (each.design(each.fit), each.fit.paid, each.design(each.validate), each.validate.paid)
            for name, each in parts.items()
        }
        trainer = ParallelStrategyTrainer(_settings(config, executor), stopping=stopping)
        for name, report in trainer.train_strategies(list(parts), data, config.epochs).items():
            verdicts[name] = _judged(report, parts[name], champions.get(name), timeframe, symbols, config)
    return {name: verdicts[name] for name in histories}


def live_score(history: SignalHistory, model: MetaModel) -> LiveScore | None:
    """How `model` does since it was judged; None while there is too little to say."""
    embargo = model.known_until + model.horizon * timeframe_ms(model.timeframe)
    later = history.take(history.time > embargo)
    bars = len(np.unique(later.time))
    if bars < FEWEST * 2 * model.horizon:
        return None
    gains = _gains_by_bar(model.baseline_probability(later.side, later.own), _said(model, later), later)
    error = model.gain_deviation * np.sqrt(1 / model.bars + 1 / bars)
    return LiveScore(bars, float(gains.mean()), float(model.gain - LIVE_WIDTH * error))


# ── the parts of a history ─────────────────────────────────────────────────────────────────────────────────────────


def _cut(history: SignalHistory, champion: MetaModel | None, horizon: int, bar_ms: int) -> tuple[_Parts | None, str]:
    """Rows to fit, validate and test on, or why there are too few."""
    n, embargo = len(history), horizon * bar_ms
    if not n:
        return None, "no signal with a known outcome yet"
    validate_from = int(history.time[int(FIT * n)])
    test_from = int(history.time[int((FIT + VALIDATE) * n)])
    if champion is not None:
        test_from = max(test_from, champion.fitted_until + embargo + 1)
    fit = history.take(history.end + embargo < validate_from)
    validate = history.take((history.time >= validate_from) & (history.end + embargo < test_from))
    test = history.take(history.time >= test_from)
    bars, needed = len(np.unique(test.time)), FEWEST_BLOCKS * 2 * horizon
    for rows, wanted, what in (
        (len(fit), FEWEST_FIT, "signals to fit on"),
        (len(validate), FEWEST_VALIDATE, "signals to validate on"),
        (bars, needed, "bars with a signal to test on"),
    ):
        if rows < wanted:
            return None, f"{rows} {what}, at least {wanted} are needed: {n} signals have a known outcome"
    for name, part in (("fit", fit), ("validate", validate)):
        if part.paid.min() == part.paid.max():
            return None, f"all {len(part)} signals to {name} on ended alike: nothing to tell apart"
    mean, std = fit.X.mean(axis=0, dtype=np.float64), fit.X.std(axis=0, dtype=np.float64)
    return _Parts(fit, validate, test, (mean, np.where(std > 1e-12, std, 1.0))), ""


def _settings(config: LearningConfig, executor: Executor) -> TrainingConfig:
    return TrainingConfig(
        executor=executor,
        max_workers=config.max_workers,
        timeout_seconds=config.timeout_seconds,
        memory_limit_mb=config.memory_limit_mb,
        seed=config.seed,
        loss="log_loss",
    )


# ── judging ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _judged(
    report: StrategyTrainingReport,
    parts: _Parts,
    champion: MetaModel | None,
    timeframe: str,
    symbols: tuple[str, ...],
    config: LearningConfig,
) -> Verdict:
    if report.weights is None:
        return Verdict(report.strategy, "failed", str(report.error), seconds=report.seconds)
    model, test = _calibrated(report, parts, timeframe, symbols, config.horizon), parts.test
    if model.slope <= 0:
        reason = f"what it learned did not hold on the {len(parts.validate)} later signals it was validated on"
        return Verdict(report.strategy, "rejected", reason, model, seconds=report.seconds)
    said = _said(model, test)
    over_baseline = _gains_by_bar(model.baseline_probability(test.side, test.own), said, test)
    block = max(2 * config.horizon, len(over_baseline) // MOST_BLOCKS)
    low, high = block_interval(over_baseline, block)
    model = dataclasses.replace(
        model,
        gain=float(over_baseline.mean()),
        gain_deviation=(high - low) / (2 * 1.96) * float(np.sqrt(len(over_baseline))),
        bars=len(over_baseline),
    )
    before = model.baseline_probability(test.side, test.own) if champion is None else _said(champion, test)
    gains = _gains_by_bar(before, said, test)
    gain, interval = float(gains.mean()), block_interval(gains, block, coverage=COVERAGE)
    opponent = "the rule's own confidence" if champion is None else "the champion"
    better = interval[0] > config.margin and model.gain > 0
    scores = {
        "gain": gain,
        "gain_interval": list(interval),
        "against": "rule" if champion is None else "champion",
        "margin": config.margin,
        "log_loss": float(_losses(said, test).mean()),
        "log_loss_before": float(_losses(before, test).mean()),
        "base_rate": float(test.paid.mean()),
        "gain_over_rule": model.gain,
        "rows": len(test),
        "bars": len(gains),
        "fitted_rows": len(parts.fit),
        "epochs": int(report.summary["epochs_trained"]),
    }
    reason = (
        f"log loss {_beside(gain)} {opponent} on {len(gains)} later bars (gain {interval[0]:+.2%} to "
        f"{interval[1]:+.2%}, wanted above {config.margin:.2%})"
    )
    if champion is not None and model.gain <= 0 < gain:
        reason += f", and {_beside(model.gain)} the rule's own confidence"
    return Verdict(report.strategy, "promoted" if better else "rejected", reason, model, scores, report.seconds)


def _calibrated(
    report: StrategyTrainingReport, parts: _Parts, timeframe: str, symbols: tuple[str, ...], horizon: int
) -> MetaModel:
    """The trained weights with Platt's scaling, and the baseline on the same rows."""
    assert report.weights is not None
    weights, bias = report.weights["weight"], float(report.weights["bias"][0])
    fit, validate = parts.fit, parts.validate
    score = parts.design(validate) @ weights + bias
    unit = float(score.std()) if score.std() > 1e-9 else 1.0  # less is rounding
    slope, intercept = fit_logistic(score[:, None] / unit, validate.paid)
    if slope <= 0:  # it will be rejected; whoever promotes it all the same gets how often signals pay
        slope, intercept = 0.0, fit_logistic(np.empty((len(score), 0)), validate.paid)[-1]
    seen = np.concatenate((fit.side, validate.side)), np.concatenate((fit.own, validate.own))
    baseline = fit_logistic(own_columns(*seen), np.concatenate((fit.paid, validate.paid)))
    return MetaModel(
        strategy=report.strategy,
        names=META_FEATURES,
        mean=tuple(map(float, parts.scale[0])),
        std=tuple(map(float, parts.scale[1])),
        weights=tuple(map(float, weights)),
        bias=bias,
        intercept=float(intercept),
        slope=float(slope) / unit,
        baseline=tuple(map(float, baseline)),
        timeframe=timeframe,
        horizon=horizon,
        symbols=symbols,
        trained_from=int(fit.time[0]),
        fitted_until=int(validate.end.max()),
        known_until=int(parts.test.end.max()),
        gain=0.0,
        gain_deviation=0.0,
        bars=1,
    )


def _beside(gain: float) -> str:
    """`4.20% below` for a gain of 0.042."""
    return f"{abs(gain):.2%} {'below' if gain > 0 else 'above'}"


def _said(model: MetaModel, rows: SignalHistory) -> Floats:
    return model.probability(rows.X, rows.side, rows.own)


def _losses(probability: Floats, rows: SignalHistory) -> Floats:
    """Log loss of each row, (n,)."""
    kept = np.clip(probability, 1e-9, 1 - 1e-9)
    losses: Floats = -np.log(np.where(rows.outcome > 0, kept, 1 - kept))
    return losses


def _gains_by_bar(before: Floats, now: Floats, rows: SignalHistory) -> Floats:
    """What `now` takes off the log loss of `before`, as a share of its mean; one value for each bar, in order of time.

    Signals of one bar on several symbols are one value: they are no independent witnesses. Its mean is the share over
    all rows.
    """
    old = _losses(before, rows)
    bars, place = np.unique(rows.time, return_inverse=True)
    sums: Floats = np.bincount(place, old - _losses(now, rows), len(bars)).astype(np.float64)
    gains: Floats = sums * (len(bars) / len(rows)) / max(float(old.mean()), 1e-12)
    return gains
