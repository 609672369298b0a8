"""Whether one model is better than another, on candles neither of them has seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trading_bot.domain.market import Candles, timeframe_ms
from trading_bot.errors import TrainingError
from trading_bot.training.forecaster import Forecaster
from trading_bot.training.prepared_data import PreparedData, prepare_data
from trading_bot.training.scoring import FEWEST, Score, block_interval, score


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both models on the same rows.

    Attributes
    ----------
    start, end : open of the first and last bar forecast, UTC ms
    champion, challenger : scores
    gain : how much more of the target's mean square the challenger explains; above 0 it is better
    gain_interval : its 95 % interval, of differences paired row by row
    hits, hits_interval : the same of the share of right signs
    margin : what `gain` has to exceed
    """

    start: int
    end: int
    champion: Score
    challenger: Score
    gain: float
    gain_interval: tuple[float, float]
    hits: float
    hits_interval: tuple[float, float]
    margin: float

    @property
    def better(self) -> bool:
        """Whether the challenger is better by more than the margin, the interval's lower end counting."""
        return self.gain_interval[0] > self.margin


def compare(champion: Forecaster, challenger: Forecaster, candles: Candles, margin: float = 0.0) -> Comparison:
    """Forecast every bar that begins after both were trained, one horizon embargoed, and compare row by row.

    Parameters
    ----------
    margin : share of the target's mean square the challenger has to be better by

    Raises
    ------
    TrainingError
        If they forecast different things, or too few candles come after their training.
    """
    for name in ("symbol", "timeframe", "horizon"):
        if champion.facts[name] != challenger.facts[name]:
            raise TrainingError(
                f"the models forecast different things: {name} {champion.facts[name]} and {challenger.facts[name]}; "
                "wanted two of the same"
            )
    horizon = int(champion.facts["horizon"])
    here = (candles.symbol, candles.timeframe)
    if here != (champion.facts["symbol"], champion.facts["timeframe"]):
        raise TrainingError(
            f"the models forecast {champion.facts['symbol']} {champion.facts['timeframe']}, the candles are of "
            f"{here[0]} {here[1]}; give candles of the former"
        )
    seen = max(int(model.facts["trained_until"]) for model in (champion, challenger))
    after = seen + horizon * timeframe_ms(candles.timeframe)
    old, new = (_rows(model, candles, after) for model in (champion, challenger))
    first = max(int(data.time[0]) if len(data.time) else 0 for data in (old, new))
    old, new = (_from(data, first) for data in (old, new))
    _enough(old, horizon, after)
    target = old.y.astype(np.float64)
    before, now = champion.forecast(old.X), challenger.forecast(new.X)
    gain = ((before - target) ** 2 - (now - target) ** 2) / (target**2).mean()
    hits = (np.sign(now) == np.sign(target)).astype(np.float64) - (np.sign(before) == np.sign(target))
    return Comparison(
        start=int(old.time[0]),
        end=int(old.time[-1]),
        champion=score(before, target, horizon),
        challenger=score(now, target, horizon),
        gain=float(gain.mean()),
        gain_interval=block_interval(gain, 2 * horizon),
        hits=float(hits.mean()),
        hits_interval=block_interval(hits, 2 * horizon),
        margin=margin,
    )


def _rows(model: Forecaster, candles: Candles, after: int) -> PreparedData:
    """The model's own windows and targets of bars that open after `after`."""
    features = model.facts["features"]
    data = prepare_data(candles, int(model.facts["horizon"]), features["length"], features["names"])
    return _from(data, after + 1)


def _from(data: PreparedData, time: int) -> PreparedData:
    rows = slice(int(np.searchsorted(data.time, time)), None)
    return PreparedData(
        data.X[rows], data.y[rows], data.past[rows], data.index[rows], data.time[rows], data.names, data.symbol,
        data.timeframe, data.horizon,
    )  # fmt: skip


def _enough(data: PreparedData, horizon: int, after: int) -> None:
    needed = max(50, FEWEST * 2 * horizon)
    if len(data.y) < needed:
        moment = np.datetime64(after, "ms")
        raise TrainingError(
            f"{len(data.y)} bars come after both models' training (and one horizon, {str(moment)[:16]}); at least "
            f"{needed} are needed to compare {horizon}-bar forecasts: wait, or give newer candles"
        )
    if not data.y.any():
        raise TrainingError("the price does not move in the bars to compare on; give other candles")
