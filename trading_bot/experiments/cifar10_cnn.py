"""A small network for CIFAR-10, its losses, and the images as it takes them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from trading_bot.errors import TrainingError
from trading_bot.experiments.cifar10 import KINDS, SHAPE, Images
from trading_bot.training.loss_frame import Loss, within

CHANNELS = (16, 32, 64)
_BATCH = 512


class Cifar10CNN(nn.Module):
    """Convolution 3 × 3, BatchNorm, ReLU and pooling thrice; the mean over what is left of the image; ten scores.

    24,346 parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        blocks = [_block(inputs, outputs) for inputs, outputs in pairwise((SHAPE[0], *CHANNELS))]
        self.convolutions = nn.Sequential(*blocks)
        self.scores = nn.Linear(CHANNELS[-1], KINDS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 32, 32) float32 → (B, 10), of which softmax makes probabilities."""
        if x.ndim != 4 or tuple(x.shape[1:]) != SHAPE:
            raise TrainingError(f"the images have shape {tuple(x.shape)}; wanted (batch, {', '.join(map(str, SHAPE))})")
        scores: Tensor = self.scores(self.convolutions(x).mean(dim=(2, 3)))
        return scores


def _block(inputs: int, outputs: int) -> nn.Sequential:
    """(B, inputs, side, side) → (B, outputs, side / 2, side / 2)."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2))


class CrossEntropyLoss(Loss):
    """Mean −Σ y·log p, p = softmax(ŷ); y (B, 10) is 1 at what the image shows and else 0."""

    def measure(self, y_hat: Tensor, y: Tensor) -> Tensor:
        return -(y * F.log_softmax(y_hat, dim=1)).sum(1).mean()


class UniformKLLoss(Loss):
    """Mean KL(u ‖ p) + log 10 = −mean log p, u the same for all kinds: beside cross entropy, label smoothing.

    Szegedy et al., CVPR 2016 (arXiv 1512.00567), section 7. The constant changes no gradient. Without it the loss is
    near 0 at first, and scaled by that size it would drown the others: the network would learn to say nothing.
    """

    def measure(self, y_hat: Tensor, y: Tensor) -> Tensor:
        return -F.log_softmax(y_hat, dim=1).mean()


class FocalLoss(Loss):
    """Mean −Σ y·(1 − p)^γ·log p: what is told well already counts little.

    Lin et al., ICCV 2017 (arXiv 1708.02002).

    Parameters
    ----------
    gamma : γ, 0 for cross entropy
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = within("gamma", gamma, 0.0, 10.0)

    def measure(self, y_hat: Tensor, y: Tensor) -> Tensor:
        logs = F.log_softmax(y_hat, dim=1)
        missed = 1.0 - logs.exp() * (1.0 - torch.finfo(logs.dtype).eps)  # above 0, or its power has no gradient
        return -(y * missed**self.gamma * logs).sum(1).mean()


def cifar10_losses() -> dict[str, Loss]:
    """The main loss, which is the first, and the two beside it."""
    return {"cross_entropy": CrossEntropyLoss(), "uniform_kl": UniformKLLoss(), "focal": FocalLoss()}


def batches(
    images: Images, statistics: Images, batch_size: int, seed: int | None = None
) -> DataLoader[tuple[Tensor, ...]]:
    """Images standardised colour by colour with the mean and deviation of `statistics`; labels one-hot.

    Parameters
    ----------
    statistics : the images that are trained on
    seed : of the order; None: as they are
    """
    pixels = torch.from_numpy(images.pixels.astype(np.float32))
    known = statistics.pixels.astype(np.float64)
    mean, std = known.mean(axis=(0, 2, 3)), np.maximum(known.std(axis=(0, 2, 3)), 1.0)
    pixels -= torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1)
    pixels /= torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1)
    data = TensorDataset(pixels, F.one_hot(torch.from_numpy(images.labels.astype(np.int64)), KINDS).float())
    if seed is None:
        return DataLoader(data, batch_size)
    full = len(data) >= 2 * batch_size  # a last batch that is not full is left out: BatchNorm wants some images
    return DataLoader(
        data, batch_size, shuffle=True, drop_last=full, generator=torch.Generator().manual_seed(seed)
    )  # fmt: skip


@torch.inference_mode()
def accuracy(model: nn.Module, images: Images, statistics: Images) -> float:
    """Share of the images whose highest score is right, by a model in evaluation mode."""
    right = sum(
        int((model(X).argmax(1) == y.argmax(1)).sum()) for X, y in batches(images, statistics, _BATCH)
    )  # fmt: skip
    return right / len(images)
