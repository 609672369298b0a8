"""Curves for TensorBoard, where it is installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from trading_bot.errors import ConfigurationError
from trading_bot.training.tensorboard_log import TensorBoardLog


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TensorBoard's own imports
def test_every_number_of_every_epoch_is_there(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = TensorBoardLog(tmp_path / "runs" / "one")
    for epoch, loss in enumerate((2.0, 1.0, 0.5)):
        log.write(epoch, {"train_loss": loss, "val_loss": 2 * loss})
    log.close()
    read = reader.EventAccumulator(str(tmp_path / "runs" / "one"))
    read.Reload()
    assert {name: [(e.step, e.value) for e in read.Scalars(name)] for name in read.Tags()["scalars"]} == {
        "train_loss": [(0, 2.0), (1, 1.0), (2, 0.5)],
        "val_loss": [(0, 4.0), (1, 2.0), (2, 1.0)],
    }


def test_where_it_is_not_installed_what_to_do_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigurationError, match=r"TensorBoard is not installed.*'trading-bot\[tensorboard\]'"):
        TensorBoardLog(tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
