"""Every statistic this program shows, defined once. Pure NumPy; what is undefined is None, never 0, NaN or infinity.

Profits are what closed trades earned (ratios of the stake, or money), oldest first; equity is the account marked to
market. A drawdown is a positive fraction of the peak, a value at risk a positive loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from trading_bot.domain.market import Floats, Times

Series = Sequence[float] | npt.NDArray[np.floating]

DAY_MS = 86_400_000
DAYS_A_YEAR = 365  # of a market that never closes; 252 for one that does
_EULER = 0.5772156649015329


def _floats(values: Series, name: str) -> Floats:
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} should be one-dimensional, has shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} should be finite, has {int((~np.isfinite(array)).sum())} NaN or infinite values")
    return array


def _defined(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _spread(values: Floats) -> float:
    """Standard deviation (ddof 1); 0 for fewer than two values, or values equal but for rounding."""
    if len(values) < 2 or np.ptp(values) <= 8 * np.finfo(np.float64).eps * np.abs(values).max():
        return 0.0
    return float(values.std(ddof=1))


# Trades ---------------------------------------------------------------------------------------------------------------


def win_rate(profits: Series) -> float | None:
    """Share of trades that earned something; a trade at exactly 0 is neither won nor lost."""
    array = _floats(profits, "profits")
    return float((array > 0).mean()) if len(array) else None


def average_win(profits: Series) -> float | None:
    """Mean profit of the winning trades."""
    wins = (array := _floats(profits, "profits"))[array > 0]
    return float(wins.mean()) if len(wins) else None


def average_loss(profits: Series) -> float | None:
    """Mean loss of the losing trades, as a positive number."""
    losses = (array := _floats(profits, "profits"))[array < 0]
    return float(-losses.mean()) if len(losses) else None


def profit_factor(profits: Series) -> float | None:
    """Σ wins / |Σ losses|; None without a loss."""
    array = _floats(profits, "profits")
    losses = -float(array[array < 0].sum())
    return _defined(float(array[array > 0].sum()) / losses) if losses > 0 else None


def expectancy(profits: Series) -> float | None:
    """W · average win − L · average loss with W, L the rates of won and lost trades, which is the mean profit."""
    array = _floats(profits, "profits")
    return float(array.mean()) if len(array) else None


def expectancy_ratio(profits: Series) -> float | None:
    """(1 + average win / average loss) · W − 1, as freqtrade defines it; None without a loss."""
    rate, win, loss = win_rate(profits), average_win(profits), average_loss(profits)
    if rate is None or loss is None:
        return None
    return _defined((1 + (win or 0.0) / loss) * rate - 1)


def sqn(profits: Series) -> float | None:
    """System quality number √N · mean / standard deviation (ddof 1), after Van Tharp."""
    array = _floats(profits, "profits")
    spread = _spread(array)
    return _defined(math.sqrt(len(array)) * float(array.mean()) / spread) if spread else None


def best_trade(profits: Series) -> float | None:
    """The largest profit."""
    array = _floats(profits, "profits")
    return float(array.max()) if len(array) else None


def worst_trade(profits: Series) -> float | None:
    """The smallest profit (the largest loss is negative)."""
    array = _floats(profits, "profits")
    return float(array.min()) if len(array) else None


def longest_losing_streak(profits: Series) -> int:
    """The most losing trades in a row."""
    longest = current = 0
    for lost in _floats(profits, "profits") < 0:
        current = current + 1 if lost else 0
        longest = max(longest, current)
    return longest


def current_losing_streak(profits: Series) -> int:
    """How many of the newest trades lost, without one that did not lose between them."""
    not_lost = np.flatnonzero(_floats(profits, "profits") >= 0)
    return len(profits) - 1 - int(not_lost[-1]) if len(not_lost) else len(profits)


def trade_sharpe(profits: Series) -> float | None:
    """Mean / standard deviation (ddof 1) over trades, not annualised: not to be confused with `sharpe`."""
    array = _floats(profits, "profits")
    spread = _spread(array)
    return _defined(float(array.mean()) / spread) if spread else None


def trade_max_drawdown(profits: Series) -> float | None:
    """Deepest fall, as a fraction of the peak, of a capital of 1 that takes every trade in full: Π (1 + profit).

    `profits` are ratios; a loss of the whole stake or more ends at 1.
    """
    array = _floats(profits, "profits")
    if not len(array):
        return None
    capital = np.concatenate([[1.0], np.cumprod(1.0 + np.maximum(array, -1.0))])
    return _defined(float((1.0 - capital / np.maximum.accumulate(capital)).max()))


# Equity ---------------------------------------------------------------------------------------------------------------


def daily_equity(time: npt.ArrayLike, equity: Series) -> tuple[Times, Floats]:
    """The account at the end of each UTC day, a day without a point taking over the day before.

    Parameters
    ----------
    time
        Bar opens in UTC ms, rising; `equity` was measured at the close of these bars, so that the bar which opens
        at 23:00 ends its day.

    Returns
    -------
    days, equity
        Starts of the days in UTC ms (d,), and the equity at their ends (d,).
    """
    times, values = np.asarray(time, np.int64), _floats(equity, "equity")
    if times.shape != values.shape:
        raise ValueError(f"time and equity should have one length, have {len(times)} and {len(values)}")
    if not len(times):
        return times, values
    if (np.diff(times) < 0).any():
        raise ValueError("time should rise; sort the points before resampling them")
    days = times // DAY_MS
    every_day = np.arange(days[0], days[-1] + 1)
    return every_day * DAY_MS, values[np.searchsorted(days, every_day, "right") - 1]


def returns_of(equity: Series) -> Floats:
    """Simple returns between neighbours, length n − 1.

    Raises
    ------
    ValueError
        If a value but the last is not positive.
    """
    array = _floats(equity, "equity")
    if (array[:-1] <= 0).any():
        raise ValueError(f"equity should stay positive for returns to exist, falls to {array[:-1].min():g}")
    return np.asarray(array[1:] / array[:-1] - 1.0, np.float64)


def sharpe(daily_returns: Series, days: int = DAYS_A_YEAR) -> float | None:
    """Sharpe ratio √days · mean / standard deviation (ddof 1) of daily returns, at a risk-free rate of 0."""
    array = _floats(daily_returns, "daily_returns")
    spread = _spread(array)
    return _defined(math.sqrt(days) * float(array.mean()) / spread) if spread else None


def sortino(daily_returns: Series, days: int = DAYS_A_YEAR) -> float | None:
    """Sortino ratio √days · mean / √(Σ min(r, 0)² / n), at a target of 0 (Sortino and Price, 1994).

    The downside is measured from a fixed target, not from an estimated mean, hence divided by n as empyrical and
    quantstats do. None without a losing day, or with fewer than two days.
    """
    array = _floats(daily_returns, "daily_returns")
    if len(array) < 2:
        return None
    downside = math.sqrt(float((np.minimum(array, 0.0) ** 2).mean()))
    return _defined(math.sqrt(days) * float(array.mean()) / downside) if downside > 0 else None


def cagr(start_equity: float, end_equity: float, days: float) -> float | None:
    """Compound annual growth rate (end / start)^(365 / days) − 1; None without time or capital, or if it overflows."""
    if days <= 0 or start_equity <= 0 or end_equity < 0:
        return None
    try:
        return _defined((end_equity / start_equity) ** (DAYS_A_YEAR / days) - 1.0)
    except OverflowError:
        return None


def calmar(growth: float | None, drawdown: float | None) -> float | None:
    """`cagr` / |maximum drawdown|; None without a drawdown."""
    if growth is None or not drawdown:
        return None
    return _defined(growth / abs(drawdown))


@dataclass(frozen=True, slots=True)
class Drawdown:
    """The deepest fall from a peak. `account` is a fraction of the peak, `start` … `duration` in the unit of `time`.

    `absolute` is the largest fall in money, which need not be the same fall.
    """

    account: float
    absolute: float
    start: int  # of the peak
    end: int  # of the lowest point
    recovered: int | None  # when the peak was seen again

    @property
    def duration(self) -> int:
        """From the peak to the lowest point."""
        return self.end - self.start


def max_drawdown(equity: Series, time: npt.ArrayLike | None = None) -> Drawdown | None:
    """Maximum drawdown of mark-to-market equity; None for no points or a peak that is not positive.

    `time` (n,) gives the unit of start and end; without it they are row numbers.
    """
    array = _floats(equity, "equity")
    times = np.arange(len(array)) if time is None else np.asarray(time, np.int64)
    if times.shape != array.shape:
        raise ValueError(f"time and equity should have one length, have {len(times)} and {len(array)}")
    if not len(array) or array[0] <= 0:
        return None
    peaks = np.maximum.accumulate(array)
    falls = 1.0 - array / peaks
    low = int(falls.argmax())
    peak = int(array[: low + 1].argmax())
    again = np.flatnonzero(array[low:] >= peaks[low])
    return Drawdown(
        account=float(falls[low]),
        absolute=float((peaks - array).max()),
        start=int(times[peak]),
        end=int(times[low]),
        recovered=int(times[low + again[0]]) if len(again) else None,
    )


def exposure(in_market: npt.ArrayLike) -> float | None:
    """Share of the bars on which something was held (or mean share of capital held, given fractions)."""
    array = np.asarray(in_market, np.float64)
    return float(array.mean()) if array.size else None


def turnover(traded_value: float, equity: Series) -> float | None:
    """Value bought and sold, in multiples of the mean equity."""
    array = _floats(equity, "equity")
    mean = float(array.mean()) if len(array) else 0.0
    return _defined(traded_value / mean) if mean > 0 else None


def market_change(closes: Sequence[Series]) -> float | None:
    """Mean change of the symbols from their first to their last close: equal parts bought and held."""
    changes = [float(c[-1]) / float(c[0]) - 1.0 for c in closes if len(c) and c[0] > 0]
    return _defined(float(np.mean(changes))) if changes else None


# Value at risk --------------------------------------------------------------------------------------------------------


def historical_var(returns: Series, confidence: float = 0.95) -> float | None:
    """Loss that was exceeded in 1 − `confidence` of the periods, as a positive fraction (negative: even that gained).

    The quantile interpolates linearly between neighbours, as `numpy.quantile` does.
    """
    array = _floats(returns, "returns")
    _check_confidence(confidence)
    return -_quantile(array, 1.0 - confidence) if len(array) else None


def historical_cvar(returns: Series, confidence: float = 0.95) -> float | None:
    """Mean loss of the periods at least as bad as `historical_var` (expected shortfall)."""
    array = _floats(returns, "returns")
    _check_confidence(confidence)
    if not len(array):
        return None
    tail = array[array <= _quantile(array, 1.0 - confidence)]
    return -float(tail.mean() if len(tail) else array.min())


def cornish_fisher_var(returns: Series, confidence: float = 0.95) -> float | None:
    """Value at risk of a normal distribution bent to the sample's skew S and excess kurtosis K.

    −(μ + σ·z'), z' = z + (z² − 1)S/6 + (z³ − 3z)K/24 − (2z³ − 5z)S²/36 (Cornish and Fisher, 1938; Zangari, 1996).
    An expansion: far from the normal distribution it stops being a quantile. None for fewer than four returns, or
    returns that do not vary.
    """
    moments = _moments(_floats(returns, "returns"))
    _check_confidence(confidence)
    if moments is None:
        return None
    mean, deviation, skew, kurtosis = moments
    z = NormalDist().inv_cdf(1.0 - confidence)
    bent = z + (z**2 - 1) * skew / 6 + (z**3 - 3 * z) * kurtosis / 24 - (2 * z**3 - 5 * z) * skew**2 / 36
    return _defined(-(mean + deviation * bent))


def cornish_fisher_cvar(returns: Series, confidence: float = 0.95) -> float | None:
    """Mean of `cornish_fisher_var` over the tail beyond it: −μ + σ·φ(z)/α · (1 + zS/6 + (z² − 1)K/24 − (2z² − 1)S²/36).

    The closed form follows from the partial moments of the normal distribution below z = Φ⁻¹(α), α = 1 − confidence
    (Maillard, 2012).
    """
    moments = _moments(_floats(returns, "returns"))
    _check_confidence(confidence)
    if moments is None:
        return None
    mean, deviation, skew, kurtosis = moments
    tail = 1.0 - confidence
    z = NormalDist().inv_cdf(tail)
    bend = 1 + z * skew / 6 + (z**2 - 1) * kurtosis / 24 - (2 * z**2 - 1) * skew**2 / 36
    return _defined(-mean + deviation * NormalDist().pdf(z) / tail * bend)


def _check_confidence(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence should be between 0 and 1, such as 0.95, is {confidence}")


def _quantile(array: Floats, share: float) -> float:
    # np.quantile spends most of its time on generality; risk asks for this on every bar
    place = share * (len(array) - 1)
    below = min(int(place), len(array) - 1)
    above = min(below + 1, len(array) - 1)
    ordered = np.partition(array, (below, above))
    return float(ordered[below] + (ordered[above] - ordered[below]) * (place - below))


def _moments(array: Floats) -> tuple[float, float, float, float] | None:
    """Mean, standard deviation (ddof 1), skew and excess kurtosis (both population moments)."""
    deviation = _spread(array)
    if len(array) < 4 or not deviation:
        return None
    centred = (array - array.mean()) / array.std()
    return float(array.mean()), deviation, float((centred**3).mean()), float((centred**4).mean() - 3.0)


# Many trials ----------------------------------------------------------------------------------------------------------


def sharpe_probability(ratio: float, periods: int, skew: float, kurtosis: float, hurdle: float = 0.0) -> float | None:
    """Probability that the true Sharpe ratio is above a hurdle, given the one that was measured.

    Φ((SR − SR*) · √(n − 1) / √(1 − γ₃·SR + (γ₄ − 1)/4 · SR²)), Bailey and López de Prado (2012). None for fewer than
    two periods, or moments no returns can have.

    Parameters
    ----------
    ratio, hurdle
        Of one period, not annualised.
    periods
        That the ratio was measured on.
    skew, kurtosis
        Of their returns; 0 and 3 for a normal distribution.
    """
    variance = 1 - skew * ratio + (kurtosis - 1) / 4 * ratio**2
    if periods < 2 or not variance > 0:
        return None
    return NormalDist().cdf((ratio - hurdle) * math.sqrt((periods - 1) / variance))


def luckiest_sharpe(trials: int, spread: float) -> float | None:
    """Sharpe ratio that the best of as many independent, worthless trials is expected to show; None for less than two.

    σ · ((1 − γ) · Φ⁻¹(1 − 1/N) + γ · Φ⁻¹(1 − 1/(N·e))), γ Euler's constant; `spread` is the standard deviation σ of
    the trials' ratios (Bailey and López de Prado 2014).
    """
    if trials < 2:
        return None
    quantile = NormalDist().inv_cdf
    return spread * ((1 - _EULER) * quantile(1 - 1 / trials) + _EULER * quantile(1 - 1 / (trials * math.e)))


def probabilistic_sharpe(returns: Series, hurdle: float = 0.0) -> float | None:
    """`sharpe_probability` of returns; `hurdle` is a ratio of one period. None for fewer than four, or no variation."""
    moments = _moments(_floats(returns, "returns"))
    if moments is None:
        return None
    mean, deviation, skew, kurtosis = moments
    return sharpe_probability(mean / deviation, len(returns), skew, kurtosis + 3.0, hurdle)


def deflated_sharpe(returns: Series, trials: Sequence[Series]) -> float | None:
    """Probability that the true Sharpe ratio is above what luck alone would have made of the best trial.

    Trials that resemble each other count as if they were independent, which is severe. None without two trials that
    have a ratio, or as `probabilistic_sharpe`.

    Parameters
    ----------
    returns
        Of the arm that was chosen, each period.
    trials
        Those of every arm that was tried, this one among them, at the same period.
    """
    ratios = np.array([ratio for trial in trials if (ratio := sharpe(trial, days=1)) is not None])
    hurdle = luckiest_sharpe(len(ratios), float(ratios.std(ddof=1))) if len(ratios) > 1 else None
    return probabilistic_sharpe(returns, hurdle) if hurdle is not None else None


def backtest_overfitting(returns: Sequence[Series] | npt.NDArray[np.floating], slices: int = 10) -> float | None:
    """Probability that the arm which is best in one half of the time is not above the middle in the other.

    By combinatorially symmetric cross-validation (Bailey, Borwein, López de Prado and Zhu 2015): time is cut into
    slices, and each choice of half of them is once where the best arm by Sharpe ratio is picked. Near one half where
    no arm is better than another. None for fewer than two arms, or than two periods a slice.

    Parameters
    ----------
    returns
        (arms, periods), of every arm that was tried.
    slices
        An even number.

    Raises
    ------
    ValueError
        If arms have different lengths, a value is not finite, or `slices` is odd or not positive.
    """
    if slices < 2 or slices % 2:
        raise ValueError(f"slices should be an even number such as 10, is {slices}")
    arms = [_floats(arm, "returns") for arm in returns]
    lengths = sorted({len(arm) for arm in arms})
    if len(lengths) > 1:
        raise ValueError(f"returns of all arms should be of the same periods, have from {lengths[0]} to {lengths[-1]}")
    if len(arms) < 2 or lengths[0] < 2 * slices:
        return None
    parts = np.array_split(np.array(arms), slices, axis=1)
    halves = [list(half) for half in combinations(range(slices), slices // 2)]
    ratios = np.array([_sharpes(np.concatenate([parts[each] for each in half], axis=1)) for half in halves])
    outside = ratios[::-1]  # the complements of combinations in order are the combinations in reverse
    rows = np.arange(len(halves))
    picked = outside[rows, ratios.argmax(axis=1)][:, None]
    ranks = (outside < picked).sum(axis=1) + ((outside == picked).sum(axis=1) + 1) / 2  # ties share their mean rank
    return float((ranks <= (len(arms) + 1) / 2).mean())


def _sharpes(returns: Floats) -> Floats:
    """Of each row (arms, periods) → (arms,); 0 for an arm that does not move."""
    return np.array([sharpe(arm, days=1) or 0.0 for arm in returns])
