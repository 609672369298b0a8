"""What tests ask of a dataset."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trading_bot.training.data_loaders import TimeSeriesDataset


def statistics_of(dataset: TimeSeriesDataset) -> npt.NDArray[np.float32]:
    """Mean and standard deviation, (2, features)."""
    assert dataset.mean is not None
    assert dataset.std is not None
    return np.stack([dataset.mean, dataset.std])
