"""`python -m trading_bot.experiments.regime_tuning` fits the regime filter and prints the constants that it needs.

The filter itself is trained: the negative logarithm of the probability that it gives the true regime, bar after bar on
the tuning markets alone, is minimised by L-BFGS through its own recursion (backpropagation through time). Needs scipy.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from trading_bot.domain.market import Floats
from trading_bot.experiments.regime_markets import SYMBOLS, TUNING_SEEDS, TUNING_SPREAD, market
from trading_bot.learn.regime_features import HISTORY, NAMES, SIGNED, features_of

CHUNK, BURN = 400, 80  # bars of one training sequence; those at its beginning that are not scored
PENALTY = 1e-4  # on squared weights of standardised features
_CLASSES = np.array([0, 0, 1, 2, 3])  # regime of each state: up, down, ranging, volatile, choppy


@dataclass(frozen=True, slots=True)
class Sequences:
    """Training sequences: features (B, T, names), signed features (B, T, signed), true codes (B, T)."""

    plain: Floats
    signed: Floats
    codes: npt.NDArray[np.int64]


def sequences(bars: int) -> Sequences:
    plain, signed, codes = [], [], []
    for seed in TUNING_SEEDS:
        synthetic = market(seed, bars, TUNING_SPREAD)
        for symbol in SYMBOLS:
            candles = synthetic.all()[symbol]
            found = features_of(candles.high, candles.low, candles.close, candles.volume)
            first = np.stack([found[name] for name in NAMES], axis=1)
            second = np.stack([found[name] for name in SIGNED], axis=1)
            truth = synthetic.codes(symbol).astype(np.int64)
            for start in range(HISTORY, bars - CHUNK + 1, CHUNK - BURN):
                plain.append(first[start : start + CHUNK])
                signed.append(second[start : start + CHUNK])
                codes.append(truth[start : start + CHUNK])
    return Sequences(np.array(plain), np.array(signed), np.array(codes))


@dataclass(frozen=True, slots=True)
class Parameters:
    """One vector, seen as weights (names + 1, 4), lean (signed,), leave (4,) and enter (4,) as logits."""

    vector: Floats

    @classmethod
    def start(cls) -> Parameters:
        vector = np.zeros((len(NAMES) + 1) * 4 + len(SIGNED) + 8)
        vector[-8:-4] = -3.5
        vector[-8 - len(SIGNED) : -8] = 0.1
        return cls(vector)

    @property
    def weights(self) -> Floats:
        return self.vector[: (len(NAMES) + 1) * 4].reshape(-1, 4)

    @property
    def lean(self) -> Floats:
        return self.vector[(len(NAMES) + 1) * 4 : -8]

    @property
    def leave(self) -> Floats:
        """Chance of leaving each regime in one bar; (4,)."""
        chance: Floats = 1 / (1 + np.exp(-self.vector[-8:-4]))
        return chance

    @property
    def enter(self) -> Floats:
        """Chance of each regime to be the one entered; (4,), sum 1."""
        weight = np.exp(self.vector[-4:] - self.vector[-4:].max())
        return np.asarray(weight / weight.sum())

    def transition(self) -> Floats:
        """Chances from state to state; (5, 5). Where one goes does not depend on where one comes from."""
        leave = self.leave[_CLASSES]
        enter = self.enter[_CLASSES] * np.array([0.5, 0.5, 1, 1, 1])
        return np.asarray(np.diag(1 - leave) + np.outer(leave, enter))


def loss(vector: Floats, data: Sequences) -> tuple[float, Floats]:
    """Penalised mean −log p(true regime) of the filter, and its gradient."""
    now = Parameters(vector)
    chances = now.transition()
    four = data.plain @ now.weights[:-1] + now.weights[-1]
    tilt = data.signed @ now.lean
    evidence = np.stack([four[..., 0] + tilt, four[..., 0] - tilt, *np.moveaxis(four[..., 1:], -1, 0)], axis=-1)
    factor = np.exp(evidence - evidence.max(axis=-1, keepdims=True))
    sequences_, length = data.codes.shape
    state = np.empty((length + 1, sequences_, 5))
    ahead, total = np.empty((length, sequences_, 5)), np.empty((length, sequences_, 1))
    state[0] = 0.2
    for t in range(length):
        ahead[t] = state[t] @ chances
        joint = ahead[t] * factor[:, t]
        total[t] = joint.sum(axis=1, keepdims=True)
        state[t + 1] = joint / total[t]
    right = data.codes.T[:, :, None] == _CLASSES  # (T, B, 5)
    hit = np.maximum((state[1:] * right).sum(axis=2), 1e-300)
    count = sequences_ * (length - BURN)
    value = -float(np.log(hit[BURN:]).sum()) / count
    pull = np.where(np.arange(length)[:, None, None] >= BURN, -1.0 * right / hit[..., None] / count, 0.0)
    by_evidence, by_chances, back = np.empty_like(evidence), np.zeros((5, 5)), np.zeros((sequences_, 5))
    for t in range(length - 1, -1, -1):
        wanted = pull[t] + back
        by_joint = (wanted - (wanted * state[t + 1]).sum(axis=1, keepdims=True)) / total[t]
        by_ahead = by_joint * factor[:, t]
        by_evidence[:, t] = by_ahead * ahead[t]
        by_chances += state[t].T @ by_ahead
        back = by_ahead @ chances.T
    gradient = _gradient(now, data, by_evidence, by_chances)
    penalty = np.where(np.arange(len(vector)) < len(vector) - 8, PENALTY, 0.02 * PENALTY)
    return value + float((penalty * vector**2).sum()), gradient + 2 * penalty * vector


def _gradient(now: Parameters, data: Sequences, by_evidence: Floats, by_chances: Floats) -> Floats:
    by_four = np.stack([by_evidence[..., 0] + by_evidence[..., 1], *np.moveaxis(by_evidence[..., 2:], -1, 0)], axis=-1)
    by_four = by_four.reshape(-1, 4)
    by_weights = np.vstack([data.plain.reshape(-1, len(NAMES)).T @ by_four, by_four.sum(axis=0)])
    by_tilt = (by_evidence[..., 0] - by_evidence[..., 1]).ravel()
    by_lean = data.signed.reshape(-1, len(SIGNED)).T @ by_tilt
    by_rest = np.empty(8)
    for place in range(8):  # eight numbers: differences are exact enough and shorter than the algebra
        step = np.zeros_like(now.vector)
        step[len(step) - 8 + place] = 1e-5
        slope = Parameters(now.vector + step).transition() - Parameters(now.vector - step).transition()
        by_rest[place] = float((by_chances * slope).sum()) / 2e-5
    return np.concatenate([by_weights.ravel(), by_lean, by_rest])


def tuned(data: Sequences, steps: int) -> Parameters:
    """Fitted parameters for features as `features_of` gives them."""
    middle = data.plain.reshape(-1, len(NAMES)).mean(axis=0)
    scale = data.plain.reshape(-1, len(NAMES)).std(axis=0)
    standard = Sequences((data.plain - middle) / scale, data.signed, data.codes)
    best = minimize(
        loss, Parameters.start().vector, args=(standard,), jac=True, method="L-BFGS-B", options={"maxiter": steps}
    )
    print(f"# loss {best.fun:.4f} after {best.nit} steps")
    vector = np.array(best.x)
    weights = Parameters(vector).weights
    weights[:-1] /= scale[:, None]  # views: these write into the vector
    weights[-1] -= middle @ weights[:-1]
    weights -= weights.mean(axis=1, keepdims=True)  # what all four share says nothing
    return Parameters(vector)


def show(found: Parameters) -> str:
    """The constants as they stand in `learn/regime_filter.py`."""

    def row(numbers: Floats) -> str:
        return "(" + ", ".join(f"{number:.3f}" for number in numbers) + ")"

    lines = ["WEIGHTS: Mapping[str, Four] = {"]
    lines += [f'    "{name}": {row(numbers)},' for name, numbers in zip(NAMES, found.weights[:-1], strict=True)]
    lines += ["}", f"BIAS: Four = {row(found.weights[-1])}", "LEAN: Mapping[str, float] = {"]
    lines += [f'    "{name}": {number:.3f},' for name, number in zip(SIGNED, found.lean, strict=True)]
    lines += ["}", f"LEAVE: Four = ({', '.join(f'{chance:.4f}' for chance in found.leave)})"]
    return "\n".join([*lines, f"ENTER: Four = {row(found.enter)}"])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bars", type=int, default=6_000, help="bars of each tuning market")
    parser.add_argument("--steps", type=int, default=200, help="steps of L-BFGS at most")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    data = sequences(options.bars)
    print(f"# {len(TUNING_SEEDS)} markets (seeds {TUNING_SEEDS[0]}–{TUNING_SEEDS[-1]}), {data.codes.size:,} bars")
    print(show(tuned(data, options.steps)))
    print(f"# {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
