"""The TRM's labels: by a slow loop, by hand, and nothing from a future they must not see."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.features.market import candles as bars
from tests.features.market import candles_of, replaced
from trading_bot.domain.market import Candles, Floats
from trading_bot.errors import CandleDataError, TrainingError
from trading_bot.training.trm_labels import (
    CLASSES,
    FLAT,
    LONG,
    SHORT,
    STRATEGIES,
    Sides,
    class_pnl,
    class_positions,
    labels_of,
    prepare_trm_data,
)

COST = 0.001


def random_sides(rows: int, seed: int = 0) -> dict[str, Sides]:
    random = np.random.default_rng(seed)
    return {name: random.choice(np.array([-1, 0, 1], np.int8), rows, p=[0.15, 0.7, 0.15]) for name in STRATEGIES}


def slow_pnl(
    candles: Candles, sides: Mapping[str, Sides], horizon: int, cost: float, *, shorting: bool
) -> list[list[float]]:
    """One bar after another, as an account would have it."""
    found = []
    for t in range(len(candles) - horizon):
        row = []
        for name in CLASSES:
            worth, held = 1.0, 0.0
            for j in range(t + 1, t + horizon + 1):
                if name in STRATEGIES:
                    said = [side for side in sides[name][:j] if side != 0]  # up to bar j - 1
                    want = float(said[-1]) if said else 0.0
                else:
                    want = {"flat": 0.0, "long": 1.0, "short": -1.0}[name]
                want = want if shorting else max(want, 0.0)
                worth *= (1 - cost) ** abs(want - held)
                held = want
                until = candles.open[j + 1] if j < t + horizon else candles.close[j]
                worth *= 1 + held * (until / candles.open[j] - 1)
            row.append(worth * (1 - cost) ** abs(held) - 1)
        found.append(row)
    return found


def slow_labels(pnl: Floats, cost: float) -> list[int]:
    found = []
    for row in pnl:
        best = max(row)
        same = [abs(each - best) < 1e-9 for each in row]
        others = [each for each, equal in zip(row, same, strict=True) if not equal]
        clear = best > 0 and (not others or best - max(others) >= cost)
        found.append(same.index(True) if clear else FLAT)
    return found


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), horizon=st.integers(1, 7), shorting=st.booleans())
def test_as_a_loop_over_bars_has_it(seed: int, horizon: int, shorting: bool) -> None:
    candles, sides = candles_of(60, seed), random_sides(60, seed)
    found = class_pnl(candles, sides, horizon, COST, shorting)
    np.testing.assert_allclose(found, slow_pnl(candles, sides, horizon, COST, shorting=shorting), atol=1e-12)
    assert labels_of(found, COST).tolist() == slow_labels(found, COST)


def test_by_hand() -> None:
    opened, close = np.array([100.0, 100, 110, 121]), np.array([100.0, 105, 115, 121])
    candles = bars(close, opened)
    sides = {name: np.zeros(4, np.int8) for name in STRATEGIES}
    sides["ema_trend"][1] = 1  # long from the open of bar 2
    sides["rsi_mean_reversion"][0] = 1  # long on bar 1 alone
    sides["rsi_mean_reversion"][1] = -1
    pnl = class_pnl(candles, sides, horizon=2, cost=0.0, shorting=True)
    assert pnl.shape == (2, 8)
    # t = 0: bars 1 and 2, from 100 at the open of 1 over 110 at the open of 2 to 115 at the close of 2
    assert pnl[0, :4] == pytest.approx([0, 0.15, 0.9 * (1 - 5 / 110) - 1, 5 / 110])
    assert pnl[0, 5] == pytest.approx(1.1 * (1 - 5 / 110) - 1)  # long, then short
    # t = 1: bars 2 and 3, from 110 to 121
    assert pnl[1, :4] == pytest.approx([0, 0.1, (1 - 0.1) * 1 - 1, 0.1])
    costly = class_pnl(candles, sides, horizon=2, cost=0.01)
    assert costly[0, LONG] == pytest.approx(0.99 * 1.15 * 0.99 - 1)  # bought at the beginning, sold at the end
    assert costly[0, 5] == pytest.approx(0.99 * 1.1 * 0.99 - 1)  # bought, sold a bar later, flat at the end
    assert costly[0, SHORT] == 0


def test_which_class_is_the_label() -> None:
    rows = np.array([
        [0, 0.02, 0, 0.02, 0.01, 0, 0, 0],  # as good as long: long
        [0, 0.02, 0, 0.0195, 0, 0, 0, 0],  # not by a cost better than the trend: flat
        [0, 0.02, 0, 0.019, 0, 0, 0, 0],  # by a cost
        [0, -0.02, 0, -0.01, -0.01, -0.1, -0.1, -0.1],  # nothing earned
        [0, 0.0005, 0, 0, 0, 0, 0, 0],  # less than a cost earned
        [0, 0.01, 0, 0.01 + 1e-13, 0, 0, 0, 0],  # equal but for rounding
        [0, 0, 0, 0, 0, 0, 0.03, 0.01],
    ])  # fmt: skip
    assert labels_of(rows, COST).tolist() == [LONG, FLAT, LONG, FLAT, FLAT, LONG, 6]
    assert labels_of(rows[4:5], 0.0).tolist() == [LONG]


def test_positions_follow_from_earlier_bars_alone() -> None:
    sides = np.zeros((5, 8), np.int8)
    sides[0] = [0, 1, 0, -1, 0, 0, 1, 1]
    positions = class_positions(sides, shorting=False)
    assert positions[3].tolist() == [0, 0, 1, 1, 0, 0, 0, 1]
    assert class_positions(sides, shorting=True)[3].tolist() == [0, 0, 1, 1, -1, -1, -1, 1]
    assert positions[:3].tolist() == [[0] * 8, [1] * 8, [0] * 8]
    for bar in range(8):
        changed = sides.copy()
        changed[:, bar] = 1 - sides[:, bar]
        np.testing.assert_array_equal(class_positions(changed, shorting=True)[:, : bar + 1],
                                      class_positions(sides, shorting=True)[:, : bar + 1])  # fmt: skip


def test_no_row_knows_what_comes_after_its_horizon() -> None:
    whole, sides, horizon = candles_of(120), random_sides(120), 5
    full = class_pnl(whole, sides, horizon, COST, shorting=True)
    for cut in (30, 77, 119):
        part = class_pnl(whole[:cut], {name: each[:cut] for name, each in sides.items()}, horizon, COST, shorting=True)
        np.testing.assert_array_equal(part, full[: cut - horizon])  # bit for bit
    changed = replaced(whole, "close", 80, whole.close[80] * 1.5)
    after = class_pnl(changed, sides, horizon, COST, shorting=True)
    np.testing.assert_array_equal(after[: 80 - horizon], full[: 80 - horizon])
    assert (after[80 - horizon, 1:3] != full[80 - horizon, 1:3]).all(), "the last bar's close counts"
    later = {name: each.copy() for name, each in sides.items()}
    for each in later.values():
        each[80:] = -each[80:]
    np.testing.assert_array_equal(class_pnl(whole, later, horizon, COST)[: 81 - horizon],
                                  class_pnl(whole, sides, horizon, COST)[: 81 - horizon])  # fmt: skip


def test_short_is_flat_where_shorting_is_off() -> None:
    candles, sides = candles_of(80), random_sides(80)
    off, on = (class_pnl(candles, sides, 4, COST, shorting) for shorting in (False, True))
    assert (off[:, SHORT] == 0).all()
    assert SHORT not in labels_of(off, COST)
    assert SHORT in labels_of(on, COST)


def test_prepared_rows_are_consecutive_and_begin_after_the_warmup() -> None:
    candles = candles_of(420)
    sides = random_sides(420)
    data = prepare_trm_data(candles, sides, horizon=12, warmup=300)
    assert data.X.shape == (420 - 12 - 300, 30, 40)
    assert data.index.tolist() == list(range(300, 408))
    np.testing.assert_array_equal(data.pnl, class_pnl(candles, sides, 12, COST)[300:])
    np.testing.assert_array_equal(data.labels, labels_of(data.pnl, COST))
    np.testing.assert_array_equal(data.time, candles.time[300:408])
    assert (data.length, len(data.names)) == (30, 40)
    shorter = prepare_trm_data(candles[:400], {name: each[:400] for name, each in sides.items()}, warmup=300)
    np.testing.assert_array_equal(shorter.X, data.X[: len(shorter.X)])
    np.testing.assert_array_equal(shorter.labels, data.labels[: len(shorter.labels)])


def test_what_is_wrong_is_told() -> None:
    candles, sides = candles_of(60), random_sides(60)
    with pytest.raises(TrainingError, match="signals of macd_momentum are missing"):
        class_pnl(candles, {name: sides[name] for name in STRATEGIES[:-1]})
    with pytest.raises(TrainingError, match="signals of ema_trend have shape"):
        class_pnl(candles, {**sides, "ema_trend": np.full(60, 3, np.int8)})
    with pytest.raises(TrainingError, match=r"wanted \(60,\)"):
        class_pnl(candles, {**sides, "ema_trend": np.zeros(59, np.int8)})
    with pytest.raises(TrainingError, match="horizon is 0; wanted a whole number of bars"):
        class_pnl(candles, sides, 0)
    with pytest.raises(TrainingError, match="cost is -1; wanted"):
        class_pnl(candles, sides, cost=-1)
    with pytest.raises(CandleDataError, match="no outcome over 60 bars; at least 61 are needed"):
        class_pnl(candles, sides, 60)
    with pytest.raises(CandleDataError, match="wanted prices above 0"):
        class_pnl(replaced(candles, "open", 7, 0.0), sides)
    with pytest.raises(CandleDataError, match="leave no window of 30 bars after 330 bars of warm-up"):
        prepare_trm_data(candles_of(340), random_sides(340), warmup=330)
