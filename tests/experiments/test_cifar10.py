"""The CIFAR-10 archive: what is read, what is refused, what is told where there is none; the network and its losses."""

from __future__ import annotations

import hashlib
import io
import math
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from trading_bot.errors import TrainingError
from trading_bot.experiments import cifar10
from trading_bot.experiments.ablation import MODES, PLACEBOS, ablation
from trading_bot.experiments.ablation_analysis import analyze, told
from trading_bot.experiments.ablation_kept import FILE
from trading_bot.experiments.ablation_tasks import Cifar10Task, RunConfig
from trading_bot.experiments.cifar10 import (
    ARCHIVE,
    INSIDE,
    RECORD,
    TEST_FILE,
    TRAINING_FILES,
    fetch,
    load_cifar10,
    read_archive,
)
from trading_bot.experiments.cifar10_cnn import (
    Cifar10CNN,
    CrossEntropyLoss,
    FocalLoss,
    UniformKLLoss,
    accuracy,
    batches,
)
from trading_bot.models.registry import count_parameters
from trading_bot.training.loss_monitor import LossMonitorAgent, MonitorConfig
from trading_bot.training.meta_controller import PARAMETERS, MetaLearningController

Files = dict[str, bytes]
EACH = 40  # records of a file
DATA = Path(os.environ.get("TRADING_BOT_DATA", Path(__file__).parents[3] / "shared" / "data"))


def records(count: int, seed: int) -> bytes:
    """Images whose colour tells their kind, of a file in the official format."""
    random = np.random.default_rng(seed)
    made = random.integers(0, 40, (count, RECORD), np.uint8)
    made[:, 0] = random.integers(0, 10, count)
    colours = np.random.default_rng(0).integers(0, 200, (10, 3), np.uint8)
    made[:, 1:] += np.repeat(colours[made[:, 0]], 1024, axis=1)
    return made.tobytes()


def whole() -> Files:
    names = (*TRAINING_FILES, TEST_FILE)
    return {f"{INSIDE}/{name}": records(EACH, number) for number, name in enumerate(names)}


def packed(folder: Path, files: Files, extra: Callable[[tarfile.TarFile], None] = lambda archive: None) -> str:
    """Write the archive; its SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / ARCHIVE, "w:gz") as archive:
        extra(archive)
        for name, content in files.items():
            added(archive, name, content)
    return digest(folder / ARCHIVE)


def added(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# what is read ---------------------------------------------------------------------------------------------------------


def test_every_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    files = whole()
    train, test = read_archive(tmp_path / ARCHIVE, packed(tmp_path, files))
    assert (len(train), len(test)) == (5 * EACH, EACH)
    raw = files[f"{INSIDE}/data_batch_2.bin"]
    assert train.labels[EACH] == raw[0], "files in order"
    assert train.pixels[EACH, 0, 0, 1] == raw[2], "red first, row by row"
    assert train.pixels[EACH, 1, 0, 0] == raw[1 + 1024], "then green"
    assert train.pixels[EACH, 2, 31, 31] == raw[RECORD - 1]
    assert [path.name for path in tmp_path.iterdir()] == [ARCHIVE], "nothing is unpacked"


def test_the_parts_are_those_of_the_seed(tmp_path: Path) -> None:
    sha256 = packed(tmp_path, whole())
    one, again, other = (
        load_cifar10(tmp_path, seed, subset=100, test=20, url="file:///nowhere", sha256=sha256) for seed in (1, 1, 2)
    )
    assert (len(one.train), len(one.reward), len(one.test)) == (80, 20, 20)
    for part in ("train", "reward", "test"):
        np.testing.assert_array_equal(getattr(one, part).pixels, getattr(again, part).pixels)
        assert not np.array_equal(getattr(one, part).pixels, getattr(other, part).pixels)
    seen = {image.tobytes() for image in one.train.pixels}
    assert not seen & {image.tobytes() for image in one.reward.pixels}
    assert len(load_cifar10(tmp_path, 1, subset=100, sha256=sha256).test) == EACH


def test_members_of_other_names_are_never_looked_at(tmp_path: Path) -> None:
    def more(archive: tarfile.TarFile) -> None:
        added(archive, f"../../{TEST_FILE}", b"outside")
        added(archive, "/etc/data_batch_1.bin", b"outside")
        added(archive, f"{INSIDE}/readme.html", b"words")

    folder = tmp_path / "a" / "b"
    sha256 = packed(folder, whole(), more)
    assert len(read_archive(folder / ARCHIVE, sha256)[1]) == EACH
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["a", "b", ARCHIVE]


# what is refused ------------------------------------------------------------------------------------------------------


def without_one(files: Files) -> None:
    del files[f"{INSIDE}/data_batch_3.bin"]


def cut(files: Files) -> None:
    files[f"{INSIDE}/data_batch_3.bin"] = files[f"{INSIDE}/data_batch_3.bin"][:-7]


def empty(files: Files) -> None:
    files[f"{INSIDE}/{TEST_FILE}"] = b""


def too_large(files: Files) -> None:
    files[f"{INSIDE}/{TEST_FILE}"] *= 2


def wrong_label(files: Files) -> None:
    content = bytearray(files[f"{INSIDE}/data_batch_5.bin"])
    content[3 * RECORD] = 10
    files[f"{INSIDE}/data_batch_5.bin"] = bytes(content)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (without_one, r"holds no data_batch_3.bin in cifar-10-batches-bin; wanted the binary archive: remove"),
        (cut, r"data_batch_3.bin has 122,913 bytes, 3066 too many for records of 3073; wanted a whole number"),
        (empty, r"test_batch.bin has 0 bytes or is no plain file"),
        (too_large, r"test_batch.bin has 245,840 bytes or is no plain file or there twice; wanted one file of 3073 to"),
        (wrong_label, r"data_batch_5.bin: record 3 has the label 10; wanted 0 to 9"),
    ],
)
def test_a_file_that_is_not_as_it_should_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Files], None], words: str
) -> None:
    monkeypatch.setattr(cifar10, "MOST_RECORDS", EACH)
    files = whole()
    harm(files)
    with pytest.raises(TrainingError, match=words):
        read_archive(tmp_path / ARCHIVE, packed(tmp_path, files))


def test_a_link_in_the_place_of_a_file(tmp_path: Path) -> None:
    def link(archive: tarfile.TarFile) -> None:
        entry = tarfile.TarInfo(f"{INSIDE}/{TEST_FILE}")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)

    with pytest.raises(TrainingError, match="is no plain file"):
        read_archive(tmp_path / ARCHIVE, packed(tmp_path, whole(), link))


def test_an_archive_that_is_damaged(tmp_path: Path) -> None:
    packed(tmp_path, whole())
    path = tmp_path / ARCHIVE
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"\x00" * 100, content[:-400]):
        path.write_bytes(damaged)
        with pytest.raises(TrainingError, match=r"is damaged \(.*: remove .* and it is downloaded again"):
            read_archive(path, digest(path))


def test_another_archive_than_the_official_one(tmp_path: Path) -> None:
    found = packed(tmp_path, whole())
    with pytest.raises(TrainingError, match=f"has the SHA-256 {found}; wanted {cifar10.SHA256}, that of the official"):
        load_cifar10(tmp_path, 1)


def test_more_images_than_there_are(tmp_path: Path) -> None:
    sha256 = packed(tmp_path, whole())
    with pytest.raises(TrainingError, match="found 200 training images and 40 to test; wanted 5000 and 40"):
        load_cifar10(tmp_path, 1, sha256=sha256)
    with pytest.raises(TrainingError, match="reward is 1; wanted a share"):
        load_cifar10(tmp_path, 1, reward=1, sha256=sha256)


# the download ---------------------------------------------------------------------------------------------------------


def test_it_is_downloaded_once_and_told_of(tmp_path: Path) -> None:
    sha256 = packed(tmp_path / "there", whole())
    source = tmp_path / "there" / ARCHIVE
    size, told = source.stat().st_size, list[tuple[int, int | None]]()
    here = tmp_path / "data" / "datasets"
    for _ in range(2):
        path = fetch(here, lambda done, total: told.append((done, total)), source.as_uri(), sha256)
        assert path.read_bytes() == source.read_bytes()
    assert told == [(size, size)]
    assert [each.name for each in here.iterdir()] == [ARCHIVE]


def test_what_is_not_wanted_is_not_kept(tmp_path: Path) -> None:
    packed(tmp_path / "there", whole())
    with pytest.raises(TrainingError, match=r"sent \(.* bytes\) has the SHA-256 .*; wanted 0000.* put it at"):
        fetch(tmp_path / "here", url=(tmp_path / "there" / ARCHIVE).as_uri(), sha256="0000")
    assert list((tmp_path / "here").iterdir()) == []


def test_offline_it_is_told_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as told:
        load_cifar10(tmp_path / "datasets", 1, url=(tmp_path / "absent").as_uri())
    assert f"put it at {tmp_path / 'datasets' / ARCHIVE}" in str(told.value)
    assert f"download {cifar10.URL} elsewhere" in str(told.value)
    assert list((tmp_path / "datasets").iterdir()) == []


# the network ----------------------------------------------------------------------------------------------------------


def test_the_losses() -> None:
    scores = torch.randn(6, 10, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.tensor([0, 3, 9, 1, 1, 5])
    y = F.one_hot(labels, 10).float()
    torch.testing.assert_close(CrossEntropyLoss()(scores, y), F.cross_entropy(scores, labels))
    torch.testing.assert_close(FocalLoss(0.0)(scores, y), F.cross_entropy(scores, labels))
    p = torch.softmax(scores, 1).gather(1, labels[:, None]).squeeze()
    torch.testing.assert_close(FocalLoss()(scores, y), (-((1 - p) ** 2) * p.log()).mean(), rtol=1e-5, atol=1e-6)
    uniform = torch.full((6, 10), 0.1)
    expected = F.kl_div(F.log_softmax(scores, 1), uniform, reduction="batchmean")
    torch.testing.assert_close(UniformKLLoss()(scores, y), expected + math.log(10))
    assert float(UniformKLLoss()(torch.ones(6, 10), y)) == pytest.approx(math.log(10))
    sure = (1e4 * y).requires_grad_()
    for loss in (CrossEntropyLoss(), UniformKLLoss(), FocalLoss(0.5)):
        (slope,) = torch.autograd.grad(loss(sure, y), sure)
        assert bool(torch.isfinite(slope).all()), type(loss).__name__


def test_the_network_takes_images_alone() -> None:
    network = Cifar10CNN()
    assert count_parameters(network) == 24_346
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    with pytest.raises(TrainingError, match=r"shape \(2, 32, 32\); wanted \(batch, 3, 32, 32\)"):
        network(torch.zeros(2, 32, 32))


def test_it_learns_what_colours_tell(tmp_path: Path) -> None:
    sha256 = packed(tmp_path, whole())
    task = Cifar10Task(tmp_path, subset=200, sha256=sha256)
    config = RunConfig(epochs=8, batch_size=16, learning_rate=0.003)
    one, again, other = (task.train("fixed", {}, seed, 0, config, None) for seed in (1, 1, 2))
    assert one.scores["accuracy"] > 0.8
    assert (one.scores, one.history["val_loss"]) == (again.scores, again.history["val_loss"])
    assert one.history["val_loss"] != other.history["val_loss"]
    assert one.weights == pytest.approx({"cross_entropy": 1 / 3, "uniform_kl": 1 / 3, "focal": 1 / 3})


def test_images_are_standardised_by_those_that_are_trained_on(tmp_path: Path) -> None:
    sha256 = packed(tmp_path, whole())
    images = load_cifar10(tmp_path, 3, subset=100, sha256=sha256)
    X, y = next(iter(batches(images.train, images.train, 80)))
    assert X.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-4)
    assert X.std(dim=(0, 2, 3)).tolist() == pytest.approx([1, 1, 1], abs=1e-2)
    assert y.argmax(1).tolist() == images.train.labels.tolist()
    assert 0 <= accuracy(Cifar10CNN().eval(), images.test, images.train) <= 1


# the ablation ---------------------------------------------------------------------------------------------------------


def learned(folder: Path) -> RunConfig:
    """A monitor that acts whenever it prefers to, a controller that proposes something, and steps enough for both."""
    monitor, controller = folder / "monitor.safetensors", folder / "controller.safetensors"
    LossMonitorAgent(MonitorConfig(margin=0.0, heads=1)).save(monitor)
    MetaLearningController(np.full(PARAMETERS, 0.5)).save(controller)
    return RunConfig(
        epochs=4, batch_size=6, learning_rate=0.003, calibration=2, frequency=4, monitor=monitor, controller=controller
    )


def test_every_mode_from_the_archive_to_the_effects(tmp_path: Path) -> None:
    task, config = Cifar10Task(tmp_path, subset=60, test=10, sha256=packed(tmp_path, whole())), learned(tmp_path)
    runs = ablation(task, [1, 2], config, tmp_path / "one")
    rows = [run.row for run in runs.values()]
    assert [row["mode"] for row in rows] == [*MODES, *PLACEBOS] * 2
    ablation(task, [1], config, tmp_path / "again")
    for path in (tmp_path / "again/curves").iterdir():
        assert path.read_bytes() == (tmp_path / "one/curves" / path.name).read_bytes()
    assert (tmp_path / "one" / FILE).read_bytes().startswith((tmp_path / "again" / FILE).read_bytes())
    weights = {row["mode"]: [row[name] for name in row if name.startswith("weight_")] for row in rows}
    assert weights["baseline"] == pytest.approx([1 / 3] * 3)
    for mode in weights.keys() - {"baseline"}:
        assert weights[mode] != pytest.approx(weights["baseline"], abs=1e-6), mode
    found = analyze(tmp_path / "one")
    assert (found.task, found.metric, found.lower, found.folds) == ("cifar10", "accuracy", False, 1)
    assert set(found.effects) == {"monitor", "controller", "interaction"}
    by_mode = {mode: [row["accuracy"] for row in rows if row["mode"] == mode] for mode in MODES}
    b, m, c, f = (sum(by_mode[mode]) / 2 for mode in MODES)
    assert found.effects["monitor"].mean == pytest.approx(0.5 * ((m - b) + (f - c)))
    assert "cifar10: accuracy by mode, more is better" in told(found)


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / ARCHIVE).is_file(), reason=f"the official archive is not here: {ARCHIVE}")
def test_every_mode_on_the_official_archive(tmp_path: Path) -> None:
    config = learned(tmp_path)
    ablation(Cifar10Task(DATA, subset=200, test=100), [1], config, tmp_path / "results")
    assert set(analyze(tmp_path / "results").means) == {*MODES, *PLACEBOS}
