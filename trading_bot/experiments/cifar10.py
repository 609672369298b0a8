"""CIFAR-10 from its official binary archive: 32 × 32 colour images of ten kinds.

The archive (Krizhevsky 2009) holds data_batch_1.bin … data_batch_5.bin and test_batch.bin; a record is one byte of
label, 0 to 9, and 3,072 of image: red, green, blue, each row by row. It is downloaded once, checked, kept as it is, and
read without being unpacked.
"""

from __future__ import annotations

import hashlib
import http.client
import tarfile
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trading_bot.durable import replacing
from trading_bot.errors import TrainingError

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
ARCHIVE = "cifar-10-binary.tar.gz"
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
INSIDE = "cifar-10-batches-bin"
TRAINING_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"
SHAPE = (3, 32, 32)
KINDS = 10
RECORD = 1 + 3 * 32 * 32  # bytes
MOST_RECORDS = 10_000  # of a file
MOST_BYTES = 1 << 30  # of a download
CHUNK = 1 << 20
SUBSET = 5_000  # images that are trained on and rewarded by

Bytes = npt.NDArray[np.uint8]
Tell = Callable[[int, int | None], object]


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Images and what they show.

    Attributes
    ----------
    pixels : uint8 (n, 3, 32, 32)
    labels : uint8 (n,), 0 to 9
    """

    pixels: Bytes
    labels: Bytes

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[np.int64]) -> Images:
        """Those rows."""
        return Images(self.pixels[rows], self.labels[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Cifar10:
    """The three parts of one seed: to train on, to choose and reward by, to judge by. No image is in two of them."""

    train: Images
    reward: Images
    test: Images


def load_cifar10(
    folder: Path,
    seed: int,
    *,
    subset: int = SUBSET,
    reward: float = 0.2,
    test: int | None = None,
    tell: Tell = lambda done, total: None,
    url: str = URL,
    sha256: str = SHA256,
) -> Cifar10:
    """A subset of the training images, parted by the seed, and the test images.

    Parameters
    ----------
    folder : where the archive is kept; it is downloaded if it is not there
    seed : of which images, and of which part each is in
    subset : images of the five training files
    reward : share of the subset that is not trained on
    test : so many images of the test file, drawn by the seed; None: all of them
    tell : (bytes so far, bytes in all or None), while it is downloaded
    url, sha256 : where from, and what must come

    Raises
    ------
    TrainingError
        If the archive is neither there nor to be had, is not the one wanted, is damaged, or holds too few images.
    """
    if not 0 < reward < 1:
        raise TrainingError(f"reward is {reward!r}; wanted a share of the images above 0 and below 1, such as 0.2")
    whole, held = read_archive(fetch(folder, tell, url, sha256), sha256)
    count = len(held) if test is None else test
    if not (2 <= subset <= len(whole) and 1 <= count <= len(held)):
        raise TrainingError(
            f"found {len(whole)} training images and {len(held)} to test; wanted {subset} and {count}, at least 2 and "
            "1: ask for fewer"
        )
    random = np.random.default_rng((seed, 10))
    rows = random.permutation(len(whole))[:subset]
    kept = max(1, min(subset - 1, round(subset * (1 - reward))))
    judged = held if test is None else held.take(random.permutation(len(held))[:count])
    return Cifar10(whole.take(rows[:kept]), whole.take(rows[kept:]), judged)


# the archive ----------------------------------------------------------------------------------------------------------


def fetch(folder: Path, tell: Tell = lambda done, total: None, url: str = URL, sha256: str = SHA256) -> Path:
    """Where the archive is, once it is there; what was downloaded is kept only if it is what was wanted.

    Raises
    ------
    TrainingError
        If it is not there and cannot be downloaded, or something else came.
    """
    path = folder / ARCHIVE
    if path.exists():
        return path
    by_hand = f"download {URL} elsewhere and put it at {path}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        request = urllib.request.Request(url, headers={"User-Agent": "trading-bot"})  # noqa: S310  # our own constant
        with urllib.request.urlopen(request, timeout=30) as answer, replacing(path) as file:  # noqa: S310
            length = answer.headers.get("Content-Length")
            total = int(length) if length is not None and length.isdecimal() else None
            digest, done = hashlib.sha256(), 0
            while part := answer.read(CHUNK):
                done += len(part)
                if done > MOST_BYTES:
                    raise TrainingError(f"{url} sends more than {MOST_BYTES:,} bytes, wanted 170,052,171; {by_hand}")
                digest.update(part)
                file.write(part)
                tell(done, total)
            _compare(digest.hexdigest(), sha256, f"what {url} sent ({done:,} bytes)", by_hand)
    except (OSError, http.client.HTTPException) as error:
        raise TrainingError(
            f"{path} is not there and {url} gives nothing ({getattr(error, 'reason', None) or error}); wanted the "
            f"official archive: connect this machine to the network, or {by_hand}"
        ) from None
    return path


def read_archive(path: Path, sha256: str = SHA256) -> tuple[Images, Images]:
    """All training images, file by file, and all test images; nothing is written to the disk.

    Only members of the expected names are read, whatever else the archive holds and wherever it would lie.

    Raises
    ------
    TrainingError
        If it is not the archive wanted, is damaged, or holds something else.
    """
    mend = f"remove {path} and it is downloaded again"
    _check(path, sha256, mend)
    names = {f"{INSIDE}/{name}": name for name in (*TRAINING_FILES, TEST_FILE)}
    found: dict[str, Images] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                if member.name not in names:
                    continue
                name = names[member.name]
                if not member.isreg() or not 0 < member.size <= MOST_RECORDS * RECORD or name in found:
                    raise TrainingError(
                        f"{path}: {member.name} has {member.size:,} bytes or is no plain file or there twice; wanted "
                        f"one file of {RECORD} to {MOST_RECORDS * RECORD:,} bytes: {mend}"
                    )
                file = archive.extractfile(member)
                assert file is not None  # it is a plain file
                found[name] = images_of(file.read(), f"{path}: {member.name}", mend)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise TrainingError(f"{path} is damaged ({error}); wanted a whole tar.gz archive: {mend}") from None
    if missing := [name for name in names.values() if name not in found]:
        raise TrainingError(f"{path} holds no {', '.join(missing)} in {INSIDE}; wanted the binary archive: {mend}")
    parts = [found[name] for name in TRAINING_FILES]
    whole = Images(np.concatenate([part.pixels for part in parts]), np.concatenate([part.labels for part in parts]))
    return whole, found[TEST_FILE]


def images_of(content: bytes, source: str, mend: str) -> Images:
    """The records of one file.

    Raises
    ------
    TrainingError
        If it holds no whole number of records, or a label that there is not; `source` is named, `mend` told.
    """
    if not content or len(content) % RECORD:
        raise TrainingError(
            f"{source} has {len(content):,} bytes, {len(content) % RECORD} too many for records of {RECORD}; wanted a "
            f"whole number of them: {mend}"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    labels = records[:, 0]
    if (labels >= KINDS).any():
        row = int(np.argmax(labels >= KINDS))
        raise TrainingError(f"{source}: record {row} has the label {int(labels[row])}; wanted 0 to {KINDS - 1}: {mend}")
    return Images(records[:, 1:].reshape(-1, *SHAPE), labels)


def _check(path: Path, sha256: str, mend: str) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TrainingError(f"{path} cannot be read ({error.strerror}); check its permissions, or {mend}") from None
    _compare(found, sha256, str(path), mend)


def _compare(found: str, wanted: str, what: str, do: str) -> None:
    if found != wanted:
        raise TrainingError(f"{what} has the SHA-256 {found}; wanted {wanted}, that of the official archive: {do}")
