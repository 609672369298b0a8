"""Small networks of one architecture trained together: a layer of all of them is one batched matrix product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trading_bot.errors import TrainingError
from trading_bot.learn.batched_training import Blocks, Member, epoch_orders, means
from trading_bot.learn.module_model import tensor_losses
from trading_bot.learn.training_data import Array, batch_order, batch_rows

ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.LeakyReLU, nn.ELU, nn.Softplus, nn.Identity)
LARGEST = 100_000  # parameters of one network; above, a process for each does as well


def architecture(model: Any) -> str | None:
    """Words equal for networks that can be trained together; None for one that cannot.

    Those are an nn.Sequential of nn.Linear and activations, all of it trained, in one dtype on the CPU.
    """
    if type(model) is not nn.Sequential:
        return None
    parameters = list(model.parameters())
    if not all(type(part) is nn.Linear or type(part) in ACTIVATIONS for part in model):
        return None
    if not parameters or sum(each.numel() for each in parameters) > LARGEST:
        return None
    if any(not each.requires_grad or each.device.type != "cpu" for each in parameters):
        return None
    if any(part._forward_hooks or part._forward_pre_hooks for part in model.modules()):
        return None
    return f"{model!r} {sorted({str(each.dtype) for each in parameters})}"


class NetworkStack:
    """S networks of one architecture, each parameter stacked as (S, …); members differ in all but batch size and loss.

    Forward is baddbmm for a layer of all; one backward pass of the summed losses gives each its own gradient, since no
    network's loss knows another's parameters.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        models: list[nn.Sequential] = [member.job.model for member in members]
        self._loss, self._size = members[0].data.loss, int(members[0].job.config.batch_size)
        self._names = [name for name, _ in models[0].named_parameters()]
        columns = zip(*(model.parameters() for model in models), strict=True)
        self._parameters = [torch.stack([each.detach() for each in column]).requires_grad_() for column in columns]
        self._velocity = [torch.zeros_like(each) for each in self._parameters]
        self._dtype = self._parameters[0].dtype
        self._layers = list(models[0])
        self._rows = [batch_rows(len(member.data.y), member.job.config) for member in members]
        self._blocks = Blocks(
            members, [self._prepared(*pair) for pair in zip(members, self._rows, strict=True)], self._size
        )
        self._settings = {
            name: torch.tensor([float(getattr(member.job.config, name)) for member in members], dtype=torch.float64)
            for name in ("momentum", "gradient_clip", "weight_decay")
        }

    def _prepared(self, member: Member, rows: Any) -> tuple[Array, Array]:
        each = np.repeat(rows, self._size)[: len(member.data.y)]
        return member.data.y, (member.data.weights / each).astype(member.data.y.dtype)

    def train_epoch(self, members: Sequence[Member], places: Sequence[int], epoch: int) -> list[tuple[float, float]]:
        """One epoch of those at `places`; mean loss and mean gradient norm of each."""
        order, live = epoch_orders(members, places, epoch, batch_order)
        y, scale = (torch.from_numpy(each).to(self._dtype) for each in self._blocks.gathered(places, order))
        here = [members[place] for place in places]
        parameters = [each.detach()[places].requires_grad_() for each in self._parameters]
        velocity = [each[places] for each in self._velocity]
        rates = torch.tensor([member.progress.learning_rate for member in here], dtype=torch.float64)
        momentum, clip, decay = (each[places] for each in self._settings.values())
        keep = 1 - rates * decay
        total, norms = np.zeros(len(places)), np.zeros(len(places))
        rows_used, steps_taken = np.zeros(len(places), np.int64), np.zeros(len(places), np.int64)
        for step in range(order.shape[1]):
            X = self._batch(here, order[:, step], live[:, step])  # (S, B, d)
            scores = self._forward(X, parameters)  # (S, B)
            losses = (tensor_losses(scores, y[step], self._loss) * scale[step]).sum(dim=1)  # (S,)
            gradients = torch.autograd.grad(losses.sum(), parameters)
            norm = torch.stack([each.flatten(1).square().sum(dim=1) for each in gradients]).sum(dim=0).sqrt()
            value, length = losses.detach().double().numpy(), norm.double().numpy()
            can = self._taken(here, order[:, step], live[:, step], np.isfinite(value + length), epoch)
            factor = torch.where(norm > clip, rates * clip / norm.double(), rates)
            with torch.no_grad():
                self._step(parameters, velocity, gradients, factor, momentum, keep, can)
            rows = np.array([self._rows[place][order[at, step]] for at, place in enumerate(places)])
            total += np.where(can, value * rows, 0.0)
            norms += np.where(can, length, 0.0)
            rows_used += can * rows
            steps_taken += can
        for all_of, part in zip((*self._parameters, *self._velocity), (*parameters, *velocity), strict=True):
            all_of.data[places] = part.detach()
        return means(total, rows_used, norms, steps_taken)

    def _batch(self, members: Sequence[Member], order: Any, live: Any) -> Tensor:
        """(S, B, d); rows a member lacks are 0."""
        size = self._size
        parts = [member.data.X[at * size : (at + 1) * size] for member, at in zip(members, order.tolist(), strict=True)]
        if live.all() and all(len(part) == size for part in parts):
            return torch.from_numpy(np.stack(parts)).to(self._dtype)
        batch = np.zeros((len(parts), size, parts[0].shape[1]), parts[0].dtype)
        for row, part in enumerate(parts):
            if live[row]:
                batch[row, : len(part)] = part
        return torch.from_numpy(batch).to(self._dtype)

    def _forward(self, X: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        values = iter(parameters)
        for layer in self._layers:
            if isinstance(layer, nn.Linear):
                weight = next(values).transpose(1, 2)  # (S, out, in) → (S, in, out)
                X = torch.bmm(X, weight) if layer.bias is None else torch.baddbmm(next(values).unsqueeze(1), X, weight)
            else:
                X = layer(X)
        return X.squeeze(-1)

    def _taken(self, members: Sequence[Member], order: Any, live: Any, good: Any, epoch: int) -> Any:
        """Which members take the step; (S,) bool."""
        if live.all() and good.all() and all(member.error is None for member in members):
            for member in members:
                member.progress.skipped_in_a_row = 0
            return live
        can = live & good
        for row, member in enumerate(members):
            if member.error is None and live[row] and not good[row]:
                member.skip(epoch, int(order[row]))
            elif member.error is None and live[row]:
                member.progress.skipped_in_a_row = 0
            can[row] &= member.error is None
        return can

    def _step(
        self, parameters: Sequence[Tensor], velocity: Sequence[Tensor], gradients: Sequence[Tensor],
        factor: Tensor, momentum: Tensor, keep: Tensor, can: Any,
    ) -> None:  # fmt: skip
        rows = slice(None) if can.all() else torch.from_numpy(np.flatnonzero(can))

        def along(each: Tensor, like: Tensor) -> Tensor:
            return each[rows].to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))

        for parameter, speed, gradient in zip(parameters, velocity, gradients, strict=True):
            if parameter.ndim > 2:  # (S, out, in); biases are (S, out)
                parameter[rows] *= along(keep, parameter)
            speed[rows] = speed[rows] * along(momentum, speed) - gradient[rows] * along(factor, speed)
            parameter[rows] += speed[rows]

    @torch.no_grad()
    def validate(self, members: Sequence[Member], places: Sequence[int]) -> list[float]:
        """Mean loss of each over its validation rows."""
        losses = []
        for place in places:
            data = members[place].data
            X = torch.from_numpy(data.X_val).to(self._dtype).unsqueeze(0)
            scores = self._forward(X, [each[place : place + 1] for each in self._parameters])[0]
            y = torch.from_numpy(data.y_val).double()
            losses.append(float(tensor_losses(scores.double(), y, data.loss).mean()))
        return losses

    def weights(self, place: int) -> dict[str, Array]:
        """A copy of one member's, named as its network names them."""
        return {
            name: each[place].detach().numpy().copy() for name, each in zip(self._names, self._parameters, strict=True)
        }


def check_fits(model: nn.Sequential, X: Array) -> None:
    """Refuse rows the network cannot take, or a network that gives more than one number for a row.

    Raises
    ------
    TrainingError
    """
    dtype = next(model.parameters()).dtype
    try:
        with torch.inference_mode():
            shape = tuple(model(torch.from_numpy(X[:1]).to(dtype)).shape)
    except RuntimeError as error:
        raise TrainingError(f"the network cannot take rows of {X.shape[1]} columns: {error}") from None
    if shape != (1, 1):
        raise TrainingError(f"the network gives {shape} for one row; wanted (1, 1)")
