"""Labels that tell nothing, to see how often a model is promoted all the same; and promoted models on what came later.

The histories are those of the learning loop, made of the candles alone (it takes a shadow trade's profit where there is
one, which differs by the impact of its size).
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from trading_bot.domain.market import Candles, Floats, Times, timeframe_ms
from trading_bot.exchange.replay import instruments_from
from trading_bot.experiments.learned_trading_runs import Market, Run
from trading_bot.experiments.learned_trading_scores import BLOCK
from trading_bot.features.compute import SETTLED
from trading_bot.learn.linear_model import probabilities
from trading_bot.learn.logistic import fit_logistic
from trading_bot.learn.meta_labels import SignalHistory, merged, round_trip_costs, signal_history
from trading_bot.learn.meta_model import own_columns
from trading_bot.learn.retraining import retrain
from trading_bot.market_data.candle_files import read
from trading_bot.market_data.synthetic import SyntheticMarket
from trading_bot.settings import Settings
from trading_bot.trading.strategy import Strategy, load_strategies, read_signals
from trading_bot.training.scoring import block_interval

KINDS = ("as they were", "shifted", "permuted")
DATES = 12  # trainings are spread over the candles, the first with a full window
BINS = 5


@dataclass(frozen=True, slots=True)
class Control:
    """What came of training on one market.

    Attributes
    ----------
    counts : kind of labels → for each date: outcome → how often
    dates : the first and the last
    """

    market: str
    counts: Mapping[str, Sequence[Counter[str]]]
    dates: tuple[str, str]

    def promoted(self, kind: str) -> list[tuple[int, int]]:
        """For each date how many were promoted, and of how many that were judged."""
        return [(each["promoted"], each["promoted"] + each["rejected"]) for each in self.counts[kind]]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Promoted models on the signals they spoke of.

    Attributes
    ----------
    means : of P, and of the rules' own confidences it stands for
    bins : mean P, share that paid, and number of signals, by fifths of P
    loss, before : log loss, and that of the rule's own confidence, calibrated on what was known at the promotion
    gain : what the model takes off that loss, a share, and its 95 % interval by blocks of a week
    """

    signals: int
    bars: int
    means: tuple[float, float]
    bins: tuple[tuple[float, float, int], ...]
    loss: float
    before: float
    gain: tuple[float, float, float]


def candles_of(market: Market | None, settings: Settings) -> dict[str, Candles]:
    """By symbol, those of the files, or of the built-in synthetic market."""
    if market is not None:
        found = [read(path)[0] for path in market.files]
        return {each.symbol: each for each in found}
    synthetic = SyntheticMarket(settings.synthetic)
    return {symbol: synthetic.candles(symbol, synthetic.timeframe) for symbol in synthetic.symbols}


def rules_of(settings: Settings) -> list[Strategy]:
    """The strategies that learn: those of the folder."""
    return load_strategies(settings.strategy_path, settings.strategies or None)


def known_signals(rule: Strategy, candles: Mapping[str, Candles], time: int, settings: Settings) -> SignalHistory:
    """The rule's signals that a training as of the bar that opened at `time` would have looked at."""
    learning, warmup = settings.learning, max(SETTLED, rule.warmup)
    first = time - (learning.train_bars + warmup) * timeframe_ms(next(iter(candles.values())).timeframe)
    parts = []
    for symbol, rows in sorted(candles.items()):
        seen = rows[int(rows.time.searchsorted(first)) : int(rows.time.searchsorted(time, "right"))]
        if len(seen) > warmup:
            fee = float(instruments_from({symbol: rows}, settings.paper)[symbol].taker_fee)
            said = read_signals(rule, seen)
            costs = round_trip_costs(seen, fee, settings.matching)
            parts.append(signal_history(seen, said.side, said.confidence, learning.horizon, costs, {}))
    return merged(parts) if parts else SignalHistory.empty()


def shuffled(history: SignalHistory, kind: str, random: np.random.Generator) -> SignalHistory:
    """The same signals with outcomes that have nothing to do with them.

    Shifted, in a circle by 20 to 80 % of their number, they keep the run of good and bad times; permuted they do not.
    """
    n = len(history)
    if kind == "as they were" or n < 10:
        return history
    if kind == "shifted":
        outcome = np.roll(history.outcome, int(random.integers(-(-n // 5), n * 4 // 5 + 1)))
    else:
        outcome = random.permutation(history.outcome)
    return dataclasses.replace(history, outcome=outcome)


def trained(
    name: str,
    candles: Mapping[str, Candles],
    rules: list[Strategy],
    settings: Settings,
    draws: int,
    dates: int = DATES,
    seed: int = 0,
) -> Control:
    """Train every rule at several dates: once on its labels, `draws` times on each kind of shuffled ones."""
    random = np.random.default_rng(seed)
    times = np.unique(np.concatenate([rows.time for rows in candles.values()]))
    timeframe, symbols = next(iter(candles.values())).timeframe, tuple(sorted(candles))
    first = min(settings.learning.train_bars + SETTLED, len(times) - 1)
    places = np.unique(np.linspace(first, len(times) - 1, dates).astype(np.int64))
    counts: dict[str, list[Counter[str]]] = {kind: [] for kind in KINDS}
    for number, place in enumerate(places):
        histories = {rule.name: known_signals(rule, candles, int(times[place]), settings) for rule in rules}
        for kind in KINDS:
            counts[kind].append(Counter())
            for _ in range(1 if kind == "as they were" else draws):
                given = {rule: shuffled(history, kind, random) for rule, history in histories.items()}
                verdicts = retrain(given, {}, timeframe, symbols, settings.learning)
                counts[kind][-1].update(verdict.outcome for verdict in verdicts.values())
        print(f"{name}, labels shuffled: {number + 1} of {len(places)} dates", file=sys.stderr, flush=True)
    return Control(name, counts, (_date(times[places[0]]), _date(times[places[-1]])))


def live_calibration(run: Run, candles: Mapping[str, Candles], rules: list[Strategy]) -> Calibration | None:
    """Whether what the promoted models said of later signals came true; None where they said nothing."""
    settings = run.arm.settings()
    promoted = {model: (name, date) for name, date, outcome, model in run.trainings if outcome == "promoted"}
    by_name = {rule.name: rule for rule in rules}
    baselines = {}
    for version, (name, date) in promoted.items():
        known = known_signals(by_name[name], candles, date, settings)
        baselines[version] = fit_logistic(own_columns(known.side, known.own), known.paid)
    later = {rule.name: _whole(rule, candles, settings) for rule in rules}
    said, rule, own, paid, time = list[float](), list[float](), list[float](), list[float](), list[int]()
    for symbol, name, bar, probability, model in run.spoken:
        found = later[name].get((symbol, bar))
        if found is None:  # its outcome is not known before the candles end
            continue
        side, confidence, outcome = found
        *weights, intercept = baselines[model]
        columns = own_columns(np.array([side]), np.array([confidence]))
        said.append(probability)
        rule.append(confidence)
        own.append(float(probabilities(columns @ np.array(weights) + intercept)[0]))
        paid.append(float(outcome > 0))
        time.append(bar)
    if not said:
        return None
    return _calibration(np.array(said), np.array(rule), np.array(own), np.array(paid), np.array(time))


def _whole(
    rule: Strategy, candles: Mapping[str, Candles], settings: Settings
) -> dict[tuple[str, int], tuple[int, float, float]]:
    """Side, own confidence and outcome of every signal by symbol and time."""
    found = {}
    endless = dataclasses.replace(settings.learning, train_bars=max(500, *(len(rows) for rows in candles.values())))
    whole = dataclasses.replace(settings, learning=endless)
    for symbol, rows in candles.items():
        history = known_signals(rule, {symbol: rows}, int(rows.time[-1]), whole)
        for side, own, time, outcome in zip(history.side, history.own, history.time, history.outcome, strict=True):
            found[symbol, int(time)] = (int(side), float(own), float(outcome))
    return found


def _calibration(said: Floats, rule: Floats, own: Floats, paid: Floats, time: Times) -> Calibration:
    order = np.argsort(said, kind="stable")
    bins = tuple(
        (float(said[rows].mean()), float(paid[rows].mean()), len(rows))
        for rows in np.array_split(order, BINS)
        if len(rows)
    )
    losses = [-np.log(np.clip(np.where(paid > 0, p, 1 - p), 1e-9, 1)) for p in (said, own)]
    bars, place = np.unique(time, return_inverse=True)
    gains = np.bincount(place, losses[1] - losses[0], len(bars)) * (len(bars) / len(said)) / losses[1].mean()
    low, high = block_interval(gains, BLOCK)
    return Calibration(
        signals=len(said),
        bars=len(bars),
        means=(float(said.mean()), float(rule.mean())),
        bins=bins,
        loss=float(losses[0].mean()),
        before=float(losses[1].mean()),
        gain=(float(gains.mean()), low, high),
    )


def _date(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(int(milliseconds) / 1000, UTC):%Y-%m-%d}"
