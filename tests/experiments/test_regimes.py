"""The regime evidence: scores on cases done by hand, baselines that do what they say, a page that says how it came."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import check_grad

from trading_bot.domain.market import Candles, Floats
from trading_bot.experiments import regime_tuning, regimes
from trading_bot.experiments.regime_baselines import VolatilityThreshold
from trading_bot.experiments.regime_markets import JUDGING_SEEDS, SYMBOLS, TUNING_SEEDS, market, perturbed
from trading_bot.experiments.regime_scores import Codes, Score, bootstrap, confusion, f1, lags, spell_lengths
from trading_bot.learn.regime_detector import REGIMES
from trading_bot.learn.regime_features import NAMES, SIGNED
from trading_bot.market_data.config import SyntheticConfig
from trading_bot.market_data.synthetic import SyntheticMarket
from trading_bot.market_data.synthetic_dynamics import Dynamics

ROOT = Path(__file__).parents[2]
PNG = b"\x89PNG\r\n\x1a\n"
T, R, V, C = range(4)


def codes(*told: int) -> Codes:
    return np.array(told, np.int8)


# Scores


def test_confusion_has_the_truth_in_rows() -> None:
    counts = confusion(codes(T, T, T, R, V), codes(T, R, R, R, C))
    assert counts.tolist() == [[1, 2, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]


def test_f1_by_hand() -> None:
    counts = confusion(codes(T, T, T, R, V), codes(T, R, R, R, C))
    # trending: precision 1, recall 1/3; ranging: precision 1/3, recall 1; volatile missed; choppy never true
    np.testing.assert_allclose(f1(counts), [0.5, 0.5, 0.0, 0.0])
    np.testing.assert_allclose(f1(np.diag([5, 1, 2, 9])), 1.0)
    np.testing.assert_allclose(f1(np.zeros((4, 4), np.int64)), 0.0)


def test_lags_by_hand() -> None:
    truth = codes(T, T, T, R, R, R, V, V, C, C, C, C)
    told_ = codes(T, T, T, T, R, R, V, V, R, R, R, R)
    # ranging begins at 3, told from 4 on: 1; volatile told at its first bar: 0; choppy never
    assert lags(truth, told_) == ([1, 0], 1)
    assert lags(truth, truth) == ([0, 0, 0], 0)
    assert lags(codes(T, T), codes(R, R)) == ([], 0)  # no change, nothing to be late for
    assert lags(codes(T, R, R), codes(R, T, T)) == ([], 1)


def test_a_regime_told_too_early_and_lost_again_counts_from_its_first_bar_inside_the_spell() -> None:
    assert lags(codes(T, T, R, R, R, R), codes(R, R, T, T, R, T)) == ([2], 0)


def test_spell_lengths_by_hand() -> None:
    assert spell_lengths(codes(R, R, T, R, V, V, V)) == [[1], [2, 1], [3], []]


def test_macro_is_the_mean_over_markets_and_regimes() -> None:
    score = Score("by hand")
    score.add([(codes(T, R, V, C), codes(T, R, V, C))])  # all right: 1
    score.add([(codes(T, T), codes(R, R)), (codes(T, R), codes(T, R))])  # trending 2/4, ranging 2/4, none else: 0.25
    assert score.macro == pytest.approx((1.0 + 0.25) / 2)
    assert score.counts.sum() == 8
    assert (score.found, score.missed) == ([0, 0, 0, 0], 0)
    assert score.changes == [1.0, 1.0]
    low, high = score.interval
    assert (low, high) == (0.25, 1.0)


def test_bootstrap_is_an_interval_of_the_mean() -> None:
    random = np.random.default_rng(0)
    sample = random.normal(3.0, 1.0, 400)
    low, high = bootstrap(sample.tolist())
    assert low < sample.mean() < high
    assert (high - low) == pytest.approx(2 * 1.96 * sample.std() / 20, rel=0.1)
    assert bootstrap(sample.tolist()) == (low, high)
    assert bootstrap([2.0, 2.0]) == (2.0, 2.0)
    assert np.isnan(bootstrap([])).all()


# Baselines


def test_the_threshold_tells_by_band() -> None:
    threshold = VolatilityThreshold((-1.0, 0.0, 1.0), (R, C, T, V))
    assert threshold.tell(np.array([-5.0, -1.0, -0.5, 0.0, 0.5, 1.0, 9.0])).tolist() == [R, C, C, T, T, V, V]


def test_the_threshold_finds_bands_that_are_there() -> None:
    random = np.random.default_rng(2)
    truth = random.integers(4, size=4_000).astype(np.int8)
    place = np.array([2, 0, 3, 1])  # ranging calmest, then choppy, trending, volatile
    ratio = place[truth] + random.uniform(-0.4, 0.4, 4_000)
    threshold = VolatilityThreshold.tuned(ratio, truth)
    assert threshold.order == (R, C, T, V)
    assert f1(confusion(truth, threshold.tell(ratio))).mean() > 0.9  # cuts lie on a grid of 24 quantiles
    assert list(threshold.thresholds) == sorted(threshold.thresholds)


def test_the_ratio_is_of_volatilities() -> None:
    random = np.random.default_rng(3)
    returns = random.standard_normal(1_000) * np.where(np.arange(1_000) < 900, 0.01, 0.04)
    close: Floats = 100 * np.exp(np.cumsum(returns))
    rows = Candles("A/B", "1h", 3_600_000 * np.arange(1_000), close, close, close, close, np.ones(1_000))
    ratio = VolatilityThreshold.ratio(rows)
    row = 930
    moved = np.diff(np.log(close), prepend=np.log(close[0]))
    wanted = np.log(moved[row - 23 : row + 1].std() / moved[row - 479 : row + 1].std())
    assert ratio[row] == pytest.approx(wanted, rel=1e-6)
    assert ratio[row] > 0.5 > abs(ratio[890]) - 0.2


# Markets


def test_tuning_and_judging_never_share_a_market() -> None:
    assert not set(TUNING_SEEDS) & set(JUDGING_SEEDS)
    assert len(set(JUDGING_SEEDS)) >= 20


def test_without_spread_parameters_are_the_default_ones() -> None:
    assert perturbed(Dynamics(), np.random.default_rng(1), 0.0) == Dynamics()
    plain = SyntheticMarket(SyntheticConfig(seed=9, symbols=SYMBOLS, bars=800))
    np.testing.assert_array_equal(market(9, 800, 0.0).all()[SYMBOLS[0]].close, plain.all()[SYMBOLS[0]].close)


def test_with_spread_they_vary_within_it_and_by_seed_alone() -> None:
    one, two = market(5_000, 600, 0.35), market(5_001, 600, 0.35)
    assert one.dynamics == market(5_000, 600, 0.35).dynamics != two.dynamics
    for seed in range(30):
        found = perturbed(Dynamics(), np.random.default_rng(seed), 0.35)
        assert np.exp(-0.35) <= found.volatility / Dynamics().volatility <= np.exp(0.35)
        for regime in REGIMES:
            ratio = found.regimes[regime].mean_bars / Dynamics().regimes[regime].mean_bars
            assert np.exp(-0.35 * 1.5) <= ratio <= np.exp(0.35 * 1.5)


# Tuning


def test_the_gradient_of_tuning_is_the_slope_of_its_loss() -> None:
    random = np.random.default_rng(4)
    length = regime_tuning.BURN + 12
    data = regime_tuning.Sequences(
        random.standard_normal((2, length, len(NAMES))),
        random.standard_normal((2, length, len(SIGNED))),
        random.integers(4, size=(2, length)),
    )
    vector = regime_tuning.Parameters.start().vector + 0.1 * random.standard_normal(
        len(regime_tuning.Parameters.start().vector)
    )
    error = check_grad(
        lambda x: regime_tuning.loss(x, data)[0], lambda x: regime_tuning.loss(x, data)[1], vector, epsilon=1e-6
    )
    assert error < 1e-4
    assert np.linalg.norm(regime_tuning.loss(vector, data)[1]) > 0.1


def test_tuning_lowers_the_loss_and_prints_the_constants(capsys: pytest.CaptureFixture[str]) -> None:
    regime_tuning.main(["--bars", "900", "--steps", "4"])
    printed = capsys.readouterr().out
    assert f"{len(TUNING_SEEDS)} markets (seeds {TUNING_SEEDS[0]}–{TUNING_SEEDS[-1]})" in printed
    for name in ("WEIGHTS", "BIAS", "LEAN", "LEAVE", "ENTER"):
        assert f"{name}: " in printed
    constants = re.sub(r"^(\w+): .*? = ", r"\1 = ", printed, flags=re.MULTILINE)
    found: dict[str, dict[str, tuple[float, ...]]] = {}
    exec(compile(constants, "constants", "exec"), {}, found)
    assert tuple(found["WEIGHTS"]) == NAMES
    assert tuple(found["LEAN"]) == SIGNED
    loss = re.search(r"# loss (\d\.\d+) after", printed)
    assert loss is not None
    assert float(loss[1]) < np.log(4)  # better than not looking


# The page


def expect_page(folder: Path, *said: str) -> str:
    assert sorted(path.name for path in folder.iterdir()) == [
        "regimes-confusion.png", "regimes-example.png", "regimes.md",
    ]  # fmt: skip
    for name in ("regimes-confusion.png", "regimes-example.png"):
        assert (folder / name).read_bytes().startswith(PNG)
        assert (folder / name).stat().st_size > 10_000
    page = (folder / "regimes.md").read_text(encoding="utf-8")
    for words in (*said, "regimes-confusion.png", "regimes-example.png", "macro-F1", "bars"):
        assert words in page
    assert "nan" not in page.replace("finance", "")
    return page


def test_the_command_writes_page_and_pictures_without_data(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "trading_bot.experiments.regimes", "--output", str(tmp_path / "a" / "b"),
         "--bars", "1500", "--markets", "2", "--data", str(tmp_path / "none")],
        cwd=ROOT, env={**os.environ, "MPLCONFIGDIR": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"macro-F1 0\.\d+; .*regimes\.md written in \d+ s", done.stdout)
    page = expect_page(
        tmp_path / "a" / "b",
        "python -m trading_bot.experiments.regimes --output docs/evidence --bars 1500 --markets 2`",
        "2 synthetic markets (seeds 5000–5001",
        "seeds 1000–1031",
        "None were found; see `--data`",
        "always the commonest",
        "volatility threshold",
    )
    assert str(tmp_path) not in page


def test_the_command_looks_at_real_candles_where_there_are_some(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    rows = SyntheticMarket(SyntheticConfig(seed=3, bars=3_000)).all()["BTC/USDT"]
    frame = rows.frame().assign(timestamp=rows.time)[["timestamp", "open", "high", "low", "close", "volume"]]
    frame.to_csv(data / "BTC_USDT-1h.csv.gz", index=False)
    regimes.main(["--output", str(tmp_path / "page"), "--bars", "1200", "--markets", "1", "--data", str(data)])
    page = expect_page(tmp_path / "page", "BTC/USDT trending", "BTC/USDT choppy", "BTC_USDT-1h.csv.gz: sha256 `")
    assert "None were found" not in page


def test_the_detector_beats_both_baselines_on_the_page() -> None:
    found = regimes.judge(2_500, JUDGING_SEEDS[:2], None)
    assert [score.name for score in found.baselines] == ["volatility threshold", "always the commonest"]
    threshold, commonest = found.baselines
    assert found.main.macro > threshold.macro + 0.15 > commonest.macro + 0.15
    assert commonest.macro < 0.15  # F1 of one regime in four at most
    for counts in (threshold.counts, commonest.counts):
        assert counts.sum(axis=1).tolist() == found.main.counts.sum(axis=1).tolist()  # judged on the same bars
    assert (commonest.counts.sum(axis=0) > 0).sum() == 1
    assert found.calibration.share.sum() == pytest.approx(1.0)
    assert [score.name for score in found.patience] == ["1", "2", "3", "5"]
    assert found.patience[2].macro == found.main.macro


def test_the_next_day_begins_after_the_reading(tmp_path: Path) -> None:
    bars = 2_000
    close: Floats = np.exp(0.001 * np.arange(bars))  # every day gains 24 thousandths
    path = tmp_path / "UP_USDT-1h.csv"
    lines = [f"{3_600_000 * t},{p!r},{p!r},{p!r},{p!r},1" for t, p in enumerate(close.tolist())]
    path.write_text("timestamp,open,high,low,close,volume\n" + "\n".join(lines) + "\n")
    rows = regimes.real_regimes(path)
    assert [row.regime for row in rows] == [regime.value for regime in REGIMES]
    assert sum(row.share for row in rows) == pytest.approx(1.0)
    present = [row for row in rows if row.days]
    assert sum(row.days for row in present) == (bars - 24 - 511 + 23) // 24
    for row in present:
        assert row.next_return == pytest.approx(0.024)
        assert row.next_volatility == pytest.approx(0.0, abs=1e-9)
