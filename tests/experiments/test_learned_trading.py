"""The evidence of learning while trading: the page's numbers are the runs', and its statistics are right."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.strategies.markets import HOUR, START, random_walk
from trading_bot.bootstrap import run_backtest
from trading_bot.domain.journal import Decision
from trading_bot.domain.market import Candles, Floats
from trading_bot.errors import ConfigurationError
from trading_bot.experiments.learned_trading import arms_of, main
from trading_bot.experiments.learned_trading_comparisons import DRAWDOWN_HOPE, compare, settings_of, verdict
from trading_bot.experiments.learned_trading_control import known_signals, live_calibration, rules_of, shuffled
from trading_bot.experiments.learned_trading_runs import Arm, Market, Run, Spoken, markets_of, regimes_of
from trading_bot.experiments.learned_trading_scores import (
    Blocks,
    Estimate,
    drawdowns,
    share_by_group,
    share_interval,
    total,
)
from trading_bot.learn.config import LearningConfig
from trading_bot.learn.meta_labels import META_FEATURES, SignalHistory
from trading_bot.learn.retraining import retrain
from trading_bot.market_data.candle_writing import FORMATS
from trading_bot.settings import load_settings
from trading_bot.training.scoring import block_interval

MARKET = Market((Path("BTC_USDT-1h.csv"),))


def run_of(arm: Arm, returns: Sequence[float], regimes: Sequence[str] | None = None, **more: object) -> Run:
    """A run that earned these returns, a bar each after the first."""
    equity = 1_000.0 * np.cumprod([1.0, *(1.0 + np.array(returns))])
    told = np.array(regimes or ["ranging"] * len(equity))
    run = Run(arm, {}, START + HOUR * np.arange(len(equity)), equity, equity, told, None, None, (), ())
    return dataclasses.replace(run, **more)  # type: ignore[arg-type]


def test_the_page_tells_what_the_backtests_came_to(tmp_path: Path) -> None:
    candles = tmp_path / "BTC_USDT-1h.csv"
    FORMATS["csv"][1](candles, random_walk(770))
    page = tmp_path / "page/learning.md"
    page.parent.mkdir()
    page.write_text("# Learning\n\n## Learning rate\n\nkept\n")
    small = ["--methods", "equal", "--limits", "default", "--bars", "159", "--draws", "1", "--workers", "1"]
    main(["--data", str(candles), "--output", str(page.parent), *small])
    text = page.read_text()
    given = {
        "market": {"candles": str(candles), "max_bars": 159},
        "ensemble": {"method": "equal"},
        "learning": {"enabled": False},
    }
    found = run_backtest(load_settings([], given, {})).summary
    assert found["trades"] > 0
    row = next(line for line in text.splitlines() if line.startswith("| equal, meta-labels off"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:] == [
        f"{found['profit_ratio']:+.2%}", f"{found['sharpe']:.2f}", cells[3], f"{found['max_drawdown_account']:.1%}",
        f"{found['trades']}", f"{found['fees_paid']:,.0f}", f"{found['exposure']:.1%}", "–", "–",
    ]  # fmt: skip
    for words in (
        "| equal, meta-labels on |", "USDT: meta-labels on − off, equal | +0.0 (+0.0 … +0.0) | 1.000 | 1.00 | null |",
        f"| buy and hold | {found['market_change']:+.2%} |", "## Shuffled labels", "| USDT, shifted |", "sha256 `",
        f"--output docs/evidence --data {candles} --bars 159 --methods equal --limits default --draws 1`",
        "## Learning rate\n\nkept",
    ):  # fmt: skip
        assert words in text, words
    assert "nan" not in text
    assert (page.parent / "learned-trading.png").read_bytes().startswith(b"\x89PNG")


def test_arms_and_markets(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}-1h.csv" for name in ("BTC_USDT", "BTC_EUR", "ETH_EUR")]
    for path in paths:
        path.touch()
    markets = markets_of(paths)
    assert [market.symbols for market in markets] == [("BTC/USDT",), ("BTC/EUR", "ETH/EUR")]
    assert len(arms_of(markets, ["table", "hedge", "equal"], both_limits=False)) == 2 * 6
    more = [arm for arm in arms_of(markets[:1], ["table", "equal"], both_limits=True) if not arm.limits]
    assert [arm.name for arm in more] == ["table, meta-labels off", "table, meta-labels on", "equal, meta-labels off"]
    assert more[0].settings().risk.drawdown_halt == 0
    with pytest.raises(ConfigurationError, match="there is no candle file"):
        markets_of([tmp_path / "ADA_EUR-1h.csv"])


def test_regimes_of_several_symbols_are_the_commonest() -> None:
    def told(symbol: str, time: int, regime: str) -> Decision:
        return Decision(symbol, time, regime, {}, {}, 0.0, 0, "hold", "")

    bars = [("a", 1, "ranging"), ("b", 1, "choppy"), ("c", 1, "choppy"), ("c", 2, "volatile"), ("b", 2, "choppy")]
    found = regimes_of(np.array([1, 2, 3]), [told(*bar) for bar in bars], ["a", "b", "c"])
    assert found.tolist() == ["choppy", "choppy", ""]


# Statistics


def test_intervals_are_those_of_the_block_bootstrap() -> None:
    random = np.random.default_rng(3)
    values = np.convolve(random.normal(0.01, 1, 3_000), np.ones(20), "valid")
    found = total(values, Blocks(len(values), 168))
    low, high = block_interval(values, 168)
    assert (found.low, found.high) == pytest.approx(
        (low * len(values), high * len(values)), abs=0.05 * (high - low) * len(values)
    )
    assert found.value == pytest.approx(values.sum())


def test_what_is_alike_is_null_and_what_is_better_is_not() -> None:
    blocks = Blocks(2_000)
    alike = total(np.zeros(2_000), blocks)
    assert alike == Estimate(0.0, 0.0, 0.0, 1.0)
    assert alike.null
    better = total(np.random.default_rng(0).normal(0.01, 0.01, 2_000), blocks)
    assert not better.null
    assert better.p < 0.001


def test_drawdowns_of_drawn_curves() -> None:
    returns = np.array([np.full(50, -0.01), np.full(50, 0.01)])
    found = drawdowns(returns, Blocks(50, 10, draws=20))
    assert found == pytest.approx(np.tile([1 - 0.99**50, 0.0], (20, 1)))


def test_intervals_of_shares_are_the_published_ones() -> None:
    assert share_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert share_interval(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)


def test_trials_that_hang_together_tell_less() -> None:
    apart, together = [(1, 2)] * 100, [(0, 20)] * 5 + [(20, 20)] * 5
    assert share_by_group(apart) == (0.5, 0.5)
    low, high = share_by_group(together)
    assert low < share_interval(100, 200)[0] < share_interval(100, 200)[1] < high
    assert share_by_group([(0, 0), (3, 5)]) == (0.0, 1.0), "one group tells nothing of how groups differ"


def test_differences_add_up_over_regimes_that_were_known_before_the_bar() -> None:
    regimes = ["ranging", "trending", "choppy", "volatile", "trending"]
    equal = run_of(Arm(MARKET, "equal", False), [0.0, 0.0, 0.0, 0.0], regimes)
    table = run_of(Arm(MARKET, "table", False), [0.04, -0.01, 0.02, 0.01], regimes)
    (comparison,), (hope,) = compare(settings_of([table, equal])[0])
    assert comparison.name == "table − equal, meta-labels off"
    assert {name: each.value for name, each in comparison.by_regime.items()} == pytest.approx(
        {"ranging": 0.04, "trending": -0.01, "choppy": 0.02, "volatile": 0.01}
    )
    assert comparison.everywhere.value == pytest.approx(0.06)
    assert comparison.drawdown.value == pytest.approx(0.01)
    assert hope.sums == pytest.approx((0.0, 0.04))
    assert hope.falls == pytest.approx((0.0, 0.01))


@pytest.mark.parametrize(
    ("hope", "low", "high", "told"),
    [
        (0.15, 0.16, 0.5, "met"),
        (0.15, -0.2, 0.5, "not shown"),
        (0.15, -0.2, 0.1, "excluded"),
        (DRAWDOWN_HOPE, -0.3, -0.11, "met"),
        (DRAWDOWN_HOPE, -0.3, 0.2, "not shown"),
        (DRAWDOWN_HOPE, -0.05, 0.2, "excluded"),
    ],
)
def test_hopes_are_met_by_whole_intervals(hope: float, low: float, high: float, told: str) -> None:
    assert verdict(Estimate((low + high) / 2, low, high, 0.5), hope) == told


# Labels


def history(n: int = 3_000) -> SignalHistory:
    """Signals that pay where the first feature is high, and often enough elsewhere."""
    random = np.random.default_rng(5)
    X = random.normal(size=(n, len(META_FEATURES))).astype(np.float32)
    time = START + HOUR * np.arange(n)
    outcome = 0.01 * X[:, 0] + random.normal(0, 0.01, n)
    return SignalHistory(X, np.ones(n, np.int8), np.full(n, 0.5), time, time + 13 * HOUR, outcome)


def test_shuffled_labels_are_the_same_outcomes_elsewhere() -> None:
    before, random = history(200), np.random.default_rng(0)
    assert shuffled(before, "as they were", random) is before
    for kind in ("shifted", "permuted"):
        after = shuffled(before, kind, random)
        assert sorted(after.outcome) == sorted(before.outcome)
        assert np.array_equal(after.X, before.X)
        by = int(np.flatnonzero(after.outcome == before.outcome[0])[0])
        assert np.array_equal(np.roll(before.outcome, by), after.outcome) == (kind == "shifted")
        assert kind == "permuted" or 40 <= by <= 160


def test_true_labels_are_promoted_and_shuffled_ones_are_not() -> None:
    true, random = history(), np.random.default_rng(0)
    given = {"true": true, **{kind: shuffled(true, kind, random) for kind in ("shifted", "permuted")}}
    verdicts = retrain(given, {}, "1h", ("BTC/USDT",), LearningConfig())
    assert {name: each.outcome for name, each in verdicts.items()} == {
        "true": "promoted", "shifted": "rejected", "permuted": "rejected",
    }  # fmt: skip


def test_models_are_judged_on_the_outcomes_of_their_own_signals() -> None:
    candles, arm = random_walk(2_500), Arm(MARKET, "table", learning=True)
    settings = arm.settings()
    rules = rules_of(settings)
    rule, by_symbol = rules[0], {"BTC/USDT": candles}
    promoted_at = int(candles.time[1_500])
    known = known_signals(rule, by_symbol, int(candles.time[-1]), settings)
    assert known.end.max() <= candles.time[-1]
    assert known_signals(rule, by_symbol, promoted_at, settings).end.max() <= promoted_at, "nothing that came after"

    def judged(says: Floats) -> Run:
        later = known.time > promoted_at
        spoken: list[Spoken] = [
            ("BTC/USDT", rule.name, time, p, "it")
            for time, p in zip(known.time[later].tolist(), says[later].tolist(), strict=True)
        ]
        unknown: Spoken = ("BTC/USDT", rule.name, int(candles.time[-1]), 0.5, "it")
        trainings = (("another", START, "rejected", "x"), (rule.name, promoted_at, "promoted", "it"))
        return run_of(arm, [0.0], trainings=trainings, spoken=(*spoken, unknown))

    seer = live_calibration(judged(np.where(known.outcome > 0, 0.99, 0.01)), by_symbol, rules)
    assert seer is not None
    assert seer.signals == int((known.time > promoted_at).sum())
    assert seer.means[1] == pytest.approx(known.own[known.time > promoted_at].mean())
    assert seer.bins[0][:2] == pytest.approx((0.01, 0.0))
    assert seer.bins[-1][:2] == pytest.approx((0.99, 1.0))
    assert seer.loss == pytest.approx(-np.log(0.99))
    assert seer.gain[1] > 0.9
    fool = live_calibration(judged(np.where(known.outcome > 0, 0.01, 0.99)), by_symbol, rules)
    assert fool is not None
    assert fool.gain[2] < -1
    assert live_calibration(run_of(arm, [0.0]), by_symbol, rules) is None


def test_a_training_looks_back_no_further_than_the_daemons() -> None:
    candles: Candles = random_walk(2_500)
    settings = Arm(MARKET, "table", learning=True).settings()
    short = dataclasses.replace(settings, learning=dataclasses.replace(settings.learning, train_bars=500))
    rule = rules_of(settings)[0]
    known = known_signals(rule, {"BTC/USDT": candles}, int(candles.time[-1]), short)
    assert known.time.min() >= candles.time[-1] - 500 * HOUR
