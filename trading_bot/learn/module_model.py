"""The training steps of a network, by autograd; what `LinearModel` is for linear ones. Importing this imports torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trading_bot.errors import CheckpointError, TrainingError
from trading_bot.learn.training_config import LossName, TrainingConfig
from trading_bot.learn.training_data import Array, TrainingData, batch_order, batch_rows
from trading_bot.learn.training_progress import Progress

_CHUNK = 8192  # rows looked at in one go where no gradient is wanted


def tensor_losses(scores: Tensor, y: Tensor, loss: LossName) -> Tensor:
    """Each row's loss; scores and targets of one shape."""
    if loss == "squared_error":
        return torch.square(scores - y)
    return F.binary_cross_entropy_with_logits(scores, y, reduction="none")


class ModuleModel:
    """A network (n, …) → (n,) or (n, 1): the logit for log_loss, the forecast for squared_error. Trained in place.

    Weight decay takes from parameters of two dimensions or more: biases and the scales of norms are spared.
    Dropout draws from the seed and the epoch; the global generator is left as it was.

    Raises
    ------
    TrainingError
        If it has no `forward` or nothing to train.
    """

    def __init__(self, config: TrainingConfig, model: Any) -> None:
        if not callable(getattr(model, "forward", None)) or not callable(getattr(model, "parameters", None)):
            raise TrainingError(
                f"model is a {type(model).__name__}; wanted None for a linear model, or an object with forward and "
                "parameters, such as a torch.nn.Module"
            )
        self._config = config
        self.model = model
        self._parameters: list[Tensor] = [each for each in model.parameters() if each.requires_grad]
        if not self._parameters:
            raise TrainingError("model has no parameter that requires a gradient; wanted at least one")
        self._velocity = [torch.zeros_like(each) for each in self._parameters]
        self.dtype = self._parameters[0].dtype
        self.device = self._parameters[0].device

    def train_epoch(self, data: TrainingData, epoch: int, progress: Progress) -> tuple[float, float]:
        """One step for each batch; weighted mean loss over the rows, mean norm of the gradients before clipping.

        Raises
        ------
        TrainingDiverged
        """
        size, rows = int(self._config.batch_size), batch_rows(len(data.y), self._config)
        X, y, weights = self._tensor(data.X), self._tensor(data.y), self._tensor(data.weights)
        total = norms = 0.0
        used = taken = 0
        self._switch(training=True)
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed((int(self._config.seed) * 1_000_003 + epoch) % 2**63)
            for batch in batch_order(self._config, epoch, len(rows)).tolist():
                part = slice(batch * size, (batch + 1) * size)
                scores = self._forward(X[part])
                loss = (tensor_losses(scores, y[part], data.loss) * weights[part]).mean()
                gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True, materialize_grads=True)
                value, norm = loss.item(), _norm(gradients)
                if not math.isfinite(value + norm):
                    progress.skip(epoch, batch)
                    continue
                progress.skipped_in_a_row = 0
                self._step(gradients, norm, progress.learning_rate)
                total += value * int(rows[batch])
                used += int(rows[batch])
                norms += norm
                taken += 1
        return (total / used, norms / taken) if taken else (math.nan, math.nan)

    @torch.no_grad()
    def _step(self, gradients: tuple[Tensor, ...], norm: float, rate: float) -> None:
        config = self._config
        factor = rate if norm <= config.gradient_clip else rate * config.gradient_clip / norm
        for parameter, velocity, gradient in zip(self._parameters, self._velocity, gradients, strict=True):
            if parameter.ndim > 1:
                parameter.mul_(1 - rate * config.weight_decay)
            velocity.mul_(config.momentum).add_(gradient, alpha=-factor)
            parameter.add_(velocity)

    def validate(self, data: TrainingData) -> float:
        """Unweighted mean loss over the validation rows, summed in float64."""
        scores = torch.from_numpy(self.scores(data.X_val)).double()
        return float(tensor_losses(scores, torch.from_numpy(data.y_val).double(), data.loss).mean())

    @torch.no_grad()
    def scores(self, X: Array) -> Array:
        """X (n, …) → (n,)."""
        self._switch(training=False)
        parts = [self._forward(self._tensor(X[at : at + _CHUNK])) for at in range(0, len(X), _CHUNK)]
        scores: Array = torch.cat(parts).cpu().numpy()
        return scores

    def _forward(self, X: Tensor) -> Tensor:
        scores: Tensor = self.model.forward(X) if not callable(self.model) else self.model(X)
        if scores.numel() != len(X):
            raise TrainingError(
                f"model gave {tuple(scores.shape)} for {len(X)} rows; wanted one number a row, (n,) or (n, 1)"
            )
        return scores.reshape(len(X))

    def _tensor(self, array: Array) -> Tensor:
        if not array.flags.writeable or any(stride < 0 for stride in array.strides):  # PyTorch takes neither
            array = array.copy()
        return torch.from_numpy(array).to(self.device, self.dtype)

    def _switch(self, *, training: bool) -> None:
        if callable(getattr(self.model, "train", None)):
            self.model.train(training)

    def weights(self) -> dict[str, Array]:
        """A copy of parameters and buffers by name."""
        return {name: value.detach().cpu().numpy().copy() for name, value in self._state().items()}

    def load_weights(self, weights: Mapping[str, Array]) -> None:
        """What `weights` gave. The momentum stays."""
        _fill(self._state(), weights)

    def momentum(self) -> dict[str, Array]:
        """A copy of the momentum buffers, by the parameter's place."""
        return {f"{place}": each.cpu().numpy().copy() for place, each in enumerate(self._velocity)}

    def load_momentum(self, momentum: Mapping[str, Array]) -> None:
        _fill({f"{place}": each for place, each in enumerate(self._velocity)}, momentum)

    def rest(self) -> None:
        """Set the momentum to 0."""
        for velocity in self._velocity:
            velocity.zero_()

    def _state(self) -> dict[str, Tensor]:
        if callable(getattr(self.model, "state_dict", None)):
            state: dict[str, Tensor] = self.model.state_dict()
            return state
        return {f"{place}": each for place, each in enumerate(self.model.parameters())}


@torch.no_grad()
def _fill(places: Mapping[str, Tensor], values: Mapping[str, Array]) -> None:
    found = {name: np.shape(value) for name, value in values.items()}
    wanted = {name: tuple(place.shape) for name, place in places.items()}
    if found != wanted:
        odd = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        raise CheckpointError(
            f"these weights are of another model: {odd[0]} is {found.get(odd[0], 'absent')}, wanted "
            f"{wanted.get(odd[0], 'none of that name')}"
        )
    for name, place in places.items():
        place.copy_(torch.from_numpy(np.array(values[name])))


def _norm(gradients: tuple[Tensor, ...]) -> float:
    """Over all parameters together."""
    return float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(each) for each in gradients])))
