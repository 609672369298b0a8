"""One fit: what it learns from, what it never sees, and what is refused before it begins."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.forecasting import FEATURES, QUICK, swinging
from trading_bot.errors import ConfigurationError, TrainingError
from trading_bot.training.fitting import FitConfig, fit_forecaster, number_of_fits
from trading_bot.training.prepared_data import PreparedData, prepare_data

DATA = prepare_data(swinging(), 3, 10, FEATURES)


def fit(config: FitConfig = QUICK, data: PreparedData = DATA, folder: Path | None = None, rows: int = 900) -> Any:
    return fit_forecaster(data.X[:rows], data.y[:rows], data.horizon, config, folder)


def test_it_forecasts_what_can_be_forecast() -> None:
    data = prepare_data(swinging(4_000), 3, 10, FEATURES)
    config = dataclasses.replace(QUICK, epochs=6, batches_per_epoch=30)
    forecast = fit(config, data, rows=3_000).forecaster.forecast(data.X[3_003:])
    assert np.corrcoef(forecast, data.y[3_003:])[0, 1] > 0.15
    assert 0.1 < forecast.std() / data.y[3_003:].std() < 1, "in returns, not in standard deviations"


def test_same_seed_same_bytes_and_the_caller_s_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again = fit(), fit()
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(first.forecaster.forecast(DATA.X), again.forecaster.forecast(DATA.X))
    other = fit(dataclasses.replace(QUICK, seed=1))
    assert not np.array_equal(first.forecaster.forecast(DATA.X), other.forecaster.forecast(DATA.X))


def test_statistics_are_of_the_training_rows_alone() -> None:
    """What comes after them, the rows that validate included, may be anything."""
    trained = 900 - round(900 * QUICK.validation) - DATA.horizon
    forecaster = fit().forecaster
    rows = DATA.X[:trained].reshape(-1, len(FEATURES)).astype(np.float64)
    np.testing.assert_allclose(forecaster.mean, rows.mean(axis=0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(forecaster.std, rows.std(axis=0), rtol=1e-5)
    assert forecaster.scale == pytest.approx(float(DATA.y[:trained].astype(np.float64).std()))


def test_purged_rows_change_nothing() -> None:
    """Their labels reach into the rows that validate."""
    X, y = DATA.X.copy(), DATA.y.copy()
    start = 900 - round(900 * QUICK.validation)
    purged = slice(start - DATA.horizon, start)
    X[purged], y[purged] = 7, 7
    forecaster = fit_forecaster(X[:900], y[:900], DATA.horizon, QUICK).forecaster
    np.testing.assert_array_equal(forecaster.forecast(DATA.X), fit().forecaster.forecast(DATA.X))
    y[start - DATA.horizon - 1] = 7
    moved = fit_forecaster(X[:900], y[:900], DATA.horizon, QUICK).forecaster
    assert not np.array_equal(moved.forecast(DATA.X), forecaster.forecast(DATA.X)), "the row before is trained on"


def test_an_interrupted_fit_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    def interrupt(fit: str, epoch: int, values: object) -> None:
        if epoch == 1:
            raise KeyboardInterrupt

    arguments = (DATA.X[:900], DATA.y[:900], DATA.horizon, QUICK, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fit_forecaster(*arguments, interrupt)
    seen: list[int] = []
    resumed = fit_forecaster(*arguments, lambda fit, epoch, values: seen.append(epoch))
    assert seen == [2], "two epochs were there already"
    np.testing.assert_array_equal(resumed.forecaster.forecast(DATA.X), fit().forecaster.forecast(DATA.X))


ENSEMBLE = dataclasses.replace(
    QUICK,
    model="ensemble",
    epochs=1,
    batches_per_epoch=4,
    sizes={
        "lstm": {"hidden": 4, "layers": 1, "dense": 4},
        "cnn": {"channels": (4,), "kernels": (3,), "dense": (4,)},
        "attention": {"width": 8, "heads": 2, "layers": 1, "feed_forward": 8, "dense": 4},
        "meta": (8, 4),
        "gate": 4,
        "dropout": 0.0,
    },
)


def test_the_ensemble_s_combination_learns_from_forecasts_of_unseen_rows(tmp_path: Path) -> None:
    seen: list[str] = []

    def watch(fit: str, epoch: int, values: object) -> None:
        seen.append(fit)

    fitted = fit_forecaster(DATA.X[:900], DATA.y[:900], DATA.horizon, ENSEMBLE, tmp_path, watch)
    members = ("lstm", "cnn", "attention")
    outs = [f"{member} out of fold {number}" for number in (1, 2) for member in members]
    assert seen == [*outs, *members, "combination"]
    assert len(seen) == number_of_fits(ENSEMBLE)
    forecast = fitted.forecaster.forecast(DATA.X[900:])
    assert np.isfinite(forecast).all()
    assert forecast.std() > 0
    again = fit_forecaster(DATA.X[:900], DATA.y[:900], DATA.horizon, ENSEMBLE, tmp_path)  # all is done already
    np.testing.assert_array_equal(again.forecaster.forecast(DATA.X), fitted.forecaster.forecast(DATA.X))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"model": "lsmt"}, ConfigurationError, "unknown model 'lsmt'; did you mean 'lstm'?"),
        ({"loss": "hubber"}, TrainingError, "unknown loss 'hubber'; did you mean 'huber'?"),
        ({"optimizer": "adamx"}, TrainingError, "unknown optimizer 'adamx'; did you mean 'adam"),
        ({"scheduler": "cosin"}, TrainingError, "unknown scheduler 'cosin'; did you mean 'cosine'?"),
        ({"learning_rate": 0.0}, TrainingError, "lr is 0.0; wanted a learning rate above 0"),
        ({"sizes": {"chanels": (3,)}}, ConfigurationError, "did you mean 'channels'?"),
        ({"device": "cuda:77"}, TrainingError, "is not on this machine"),
        ({"batch_size": 1}, TrainingError, "wanted at least 2, for the model has BatchNorm"),
        ({"validation": 0.0}, TrainingError, "validation is 0.0; wanted a share above 0 and below 1"),
        ({"epochs": 0}, TrainingError, "epochs is 0; wanted a whole number ≥ 1"),
        ({"batches_per_epoch": -1}, TrainingError, "batches_per_epoch is -1; wanted a whole number ≥ 0"),
        ({"patience": 1.5}, TrainingError, "patience is 1.5"),
        ({"seed": -1}, TrainingError, "seed is -1; wanted a whole number ≥ 0"),
        ({"max_grad_norm": 0.0}, TrainingError, "max_grad_norm is 0.0; wanted a number above 0"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        fit(dataclasses.replace(QUICK, **changes))
    assert words in str(caught.value)


def test_rows_nothing_can_be_learned_from() -> None:
    def refused(y: Any, words: str, X: Any = DATA.X[:300]) -> None:
        with pytest.raises(TrainingError, match=words):
            fit_forecaster(X, y, 3, QUICK)

    refused(np.zeros(300, np.float32), "0 in every row")
    refused(np.full(300, 0.01, np.float32), "rises in all of 300 rows: with a single class")
    refused(-np.abs(DATA.y[:300]), "falls in all of 300 rows")
    refused(np.where(np.arange(300) == 7, np.nan, DATA.y[:300]).astype(np.float32), "not finite")
    refused(DATA.y[:299], "X has 300 rows and y 299")
    refused(DATA.y[:5], "5 rows, of which 1 validate and 3 are purged, leave 1 to train on", DATA.X[:5])
    spoiled = DATA.X[:300].copy()
    spoiled[5, 3, 2] = np.nan
    refused(DATA.y[:300], "row 5 of", spoiled)


def test_a_constant_feature_is_no_obstacle() -> None:
    X = DATA.X.copy()
    X[:, :, 1] = 0.1
    forecaster = fit_forecaster(X[:900], DATA.y[:900], 3, QUICK).forecaster
    assert forecaster.std[1] == 1
    assert np.isfinite(forecaster.forecast(X)).all()
