"""Every weight policy obeys the same rules, and each published rule gives the numbers of a small example."""

from __future__ import annotations

import inspect
import math
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from trading_bot.errors import TrainingError
from trading_bot.training import weight_policies
from trading_bot.training.adaptive_loss import create_adaptive_loss
from trading_bot.training.adaptive_loss_function import AdaptiveLossFunction
from trading_bot.training.loss_frame import Loss
from trading_bot.training.loss_functions import AsymmetricLoss, MAELoss, MSELoss
from trading_bot.training.weight_policies import (
    POLICIES,
    Alignment,
    Seen,
    Setting,
    WeightPolicy,
    create_policy,
    policy_options,
)
from trading_bot.training.weight_policies.simplex import FLOOR, MOST_MOVED, on_simplex, shares, softmax, towards

NAMES = ("first", "second")
CALIBRATION = 8


def seen(step: int, sizes: Sequence[float], **given: Any) -> Seen:
    """A step of two losses, as the executor would show it."""
    defaults: dict[str, Any] = {
        "progress": 0.0, "losses": tuple(sizes), "weights": (0.5, 0.5), "gradients": torch.zeros(len(sizes), 4),
        "inner": lambda number: Alignment(1.0, (0.0,) * len(sizes)),
    }  # fmt: skip
    return Seen(step=step, sizes=tuple(sizes), **{**defaults, **given})


def wanted(policy: WeightPolicy, *steps: Seen) -> list[float] | None:
    """What it wants after the last of them, with sum 1; None if it leaves the weights alone."""
    wish = [policy.weigh(step) for step in steps][-1]
    return None if wish.weights is None else [weight / math.fsum(wish.weights) for weight in wish.weights]


def made(name: str, frequency: int = 50, window: int = 20, **options: Any) -> WeightPolicy:
    return create_policy(name, Setting(NAMES, frequency, window), **options)


# ── the contract, for all of them ────────────────────────────────────────────────────────────────────────────────────


class Times(Loss):
    """A loss in another unit."""

    def __init__(self, part: Loss, factor: float) -> None:
        super().__init__()
        self.part, self.factor = part, factor

    def measure(self, y_hat: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.part.measure(y_hat, y) * self.factor


def training(name: str, factors: Sequence[float] = (1.0, 1.0, 1.0), seed: int = 0) -> tuple[AdaptiveLossFunction, Any]:
    """A linear model and an adaptive loss of three parts, and what makes one step of it."""
    torch.manual_seed(1)
    model = torch.nn.Linear(3, 1).double()  # so that units differ by nothing but the losses' own rounding
    parts = [MSELoss(), MAELoss(), AsymmetricLoss()]
    losses = {key: Times(part, factor) for key, part, factor in zip("abc", parts, factors, strict=True)}
    loss = create_adaptive_loss(
        losses, name, adaptation_frequency=10, performance_window=3, seed=seed,
        calibration_steps=CALIBRATION, total_steps=60,
    )  # fmt: skip
    optimizer = torch.optim.Adam([*model.parameters(), *loss.learned], lr=0.02)
    random = np.random.default_rng(0)

    def batch(number: int) -> tuple[torch.Tensor, torch.Tensor]:
        X = torch.from_numpy(np.random.default_rng((7, number)).normal(size=(32, 3)))
        return X, X @ torch.tensor([[1.0], [-0.5], [0.2]], dtype=torch.float64)

    loss.set_inner_validation(model, lambda number: batch(1000 + number))

    def step() -> dict[str, float]:
        X, y = batch(loss.steps)
        y = y + torch.from_numpy(random.normal(0, 0.3, y.shape))
        optimizer.zero_grad()
        value: Any = loss(model(X), y)
        value.backward()
        optimizer.step()
        return loss.weights

    return loss, step


def test_all_policies_are_here() -> None:
    modules = {module.name for module in pkgutil.iter_modules(weight_policies.__path__)}
    assert len(POLICIES) == len(set(POLICIES.values())) == 16
    assert set(POLICIES) == modules - {"policy", "simplex"}, "a file of its own for each"
    for kind in POLICIES.values():
        verbs = [name for name in vars(kind) if not name.startswith("_") and inspect.isfunction(vars(kind)[name])]
        assert verbs == ["weigh"], kind


@pytest.mark.parametrize("name", POLICIES)
def test_weights_obey_the_rules(name: str) -> None:
    loss, step = training(name)
    before, moved = loss.weights, 0.0
    for number in range(60):
        now = step()
        assert math.fsum(now.values()) == pytest.approx(1.0, abs=1e-12)
        assert min(now.values()) >= FLOOR - 1e-12
        far = sum(abs(now[key] - before[key]) for key in now)
        assert far <= MOST_MOVED + 1e-12
        assert number >= CALIBRATION or far == 0.0, "equal while the scales are measured"
        before, moved = now, moved + far
    still = {"fixed", "monitor_only", "controller_only", "full_adaptive", "time_average"}  # with nothing to go by
    assert moved > 0 or name in still
    assert all(bool(torch.isfinite(parameter).all()) for parameter in loss.policy.parameters)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_units_decide_nothing(name: str, factor: float) -> None:
    """Also while the scales are measured, or the model would have gone elsewhere."""
    _, plain = training(name)
    expected = [plain() for _ in range(30)]
    for place in range(3):
        factors = [1.0] * 3
        factors[place] = factor
        _, step = training(name, factors)
        for number, weights in enumerate(expected):
            assert step() == pytest.approx(weights, abs=2e-4), f"step {number}"


@pytest.mark.parametrize("name", POLICIES)
def test_evaluation_and_no_grad_change_nothing(name: str) -> None:
    loss, step = training(name)
    for _ in range(25):
        step()
    kept = loss.get_extra_state()
    parameters = [parameter.clone() for parameter in loss.learned]
    wild = torch.full((16, 1), 50.0)
    loss.eval()
    assert float(loss(wild, -wild)) > 0
    with torch.inference_mode():
        loss(wild, -wild)
    loss.train()
    with torch.no_grad():
        loss(wild, -wild)
    now = loss.get_extra_state()
    assert {key: now[key] for key in now if key != "last"} == {key: kept[key] for key in kept if key != "last"}
    assert all(torch.equal(a, b) for a, b in zip(parameters, loss.learned, strict=True))


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_remembers_all_it_needs_in_its_memory(name: str) -> None:
    """Put into a fresh one, it goes on with the same bits."""
    loss, step = training(name)
    for _ in range(33):
        step()
    fresh = create_policy(name, loss.policy.setting)
    for new, old in zip(fresh.parameters, loss.policy.parameters, strict=True):
        new.data.copy_(old.data)
    state = loss.get_extra_state()["memory"]
    assert state == loss.policy.memory
    fresh.memory = state
    sights = [
        Seen(
            step=26 + number, progress=0.5, losses=(0.5, 0.25 * number + 0.1, 1.0), sizes=(0.5, 0.25 * number + 0.1, 1),
            weights=(0.2, 0.3, 0.5), gradients=torch.ones(3, 4), inner=lambda n: Alignment(0.5, (0.1 * n, -0.2, 0.3)),
        )
        for number in range(30)
    ]  # fmt: skip
    assert [fresh.weigh(each).weights for each in sights] == [loss.policy.weigh(each).weights for each in sights]


@pytest.mark.parametrize("name", ["relobralo", "rlw"])
def test_chance_follows_the_seed(name: str) -> None:
    def curve(seed: int) -> list[dict[str, float]]:
        _, step = training(name, seed=seed)
        return [step() for _ in range(30)]

    assert curve(3) == curve(3)
    if name == "rlw":
        assert curve(3) != curve(4)


# ── each rule by hand ────────────────────────────────────────────────────────────────────────────────────────────────


def test_fixed() -> None:
    assert wanted(made("fixed"), seen(1, (1, 2))) == [0.5, 0.5]
    assert wanted(made("fixed", weights={"second": 1, "first": 3}), seen(1, (1, 2))) == [0.75, 0.25]


def test_schedule() -> None:
    options: dict[str, Any] = {"start": {"first": 0.8, "second": 0.2}, "end": {"first": 0.2, "second": 0.8}}
    line, wave = made("schedule_based", **options), made("schedule_based", shape="cosine", **options)
    for progress, linear, cosine in (
        (0, 0.8, 0.8),
        (0.25, 0.65, 0.8 - 0.6 * 0.14644661),
        (0.5, 0.5, 0.5),
        (1, 0.2, 0.2),
    ):
        assert wanted(line, seen(1, (1, 1), progress=progress)) == pytest.approx([linear, 1 - linear])
        assert wanted(wave, seen(1, (1, 1), progress=progress)) == pytest.approx([cosine, 1 - cosine])
    assert wanted(made("schedule_based"), seen(1, (1, 1))) == pytest.approx([2 / 3, 1 / 3])
    assert wanted(made("schedule_based"), seen(1, (1, 1), progress=1.0)) == pytest.approx([1 / 3, 2 / 3])


def test_performance() -> None:
    asked: list[int] = []

    def inner(number: int) -> Alignment:
        asked.append(number)
        return Alignment(1.0, ((0.9, 0.1), (0.6, 0.0), (0.4, 0.2))[number])

    policy = made("performance_based", frequency=30, window=2, eta=0.5)
    sights = [seen(step, (1, 1), inner=inner, weights=(0.4, 0.6)) for step in range(1, 31)]
    assert [policy.weigh(each).weights for each in sights[:-1]] == [None] * 29
    # the last two: ρ̄ = (0.5, 0.1), mean 0.3; factors e^(±0.1)
    assert policy.weigh(sights[-1]).weights == pytest.approx([0.4 * math.exp(0.1), 0.6 * math.exp(-0.1)])
    assert asked == [0, 1, 2], "every ten steps, another batch each time"


def test_learning() -> None:
    policy: Any = made("learning_based")
    policy.v.data = torch.tensor([0.1, -0.2])
    wish = policy.weigh(seen(1, (0.5, 2.0)))
    u = [3 * math.tanh(0.1), 3 * math.tanh(-0.2)]
    assert wish.weights == pytest.approx([math.exp(-u[0]), math.exp(-u[1])])
    assert wish.objective is not None
    assert wish.objective.item() == pytest.approx(0.5 * (math.exp(-u[0]) * 0.5 + u[0] + math.exp(-u[1]) * 2 + u[1]))
    wish.objective.backward()
    slope = [0.5 * (1 - math.exp(-u[0]) * 0.5) * 3 * (1 - math.tanh(0.1) ** 2),
             0.5 * (1 - math.exp(-u[1]) * 2.0) * 3 * (1 - math.tanh(-0.2) ** 2)]  # fmt: skip
    assert policy.v.grad.tolist() == pytest.approx(slope)


def test_learned_weights_that_nobody_optimises_are_an_error() -> None:
    policy = made("learning_based")
    for step in range(1, 11):
        policy.weigh(seen(step, (0.5, 2.0)))
    with pytest.raises(TrainingError, match=r"have not moved in 10 steps.*create_adaptive_trainer"):
        policy.weigh(seen(11, (0.5, 2.0)))
    settled = made("learning_based")
    for step in range(1, 20):
        settled.weigh(seen(step, (1.0, 1.0)))  # here they have no reason to move


def hybrid_with(metrics: Callable[[int], float]) -> list[list[float] | None]:
    """What it wants at every tenth step of 80, the metric being a function of the measurement's number."""
    policy = made(
        "hybrid", frequency=10, window=1, start={"first": 0.8, "second": 0.2}, end={"first": 0.2, "second": 0.8}
    )
    policy.parameters[0].data += 1e-6
    wishes = []
    for step in range(1, 81):
        place = seen(step, (1, 1), progress=step / 80, weights=(step / 100, 1 - step / 100),
                     inner=lambda number: Alignment(metrics(number), (0.2, 0.0)))  # fmt: skip
        wishes.append(wanted(policy, place))
    return wishes[9::10]


def test_hybrid_is_the_weighted_geometric_mean() -> None:
    first = hybrid_with(lambda number: 1.0)[0]
    h = 10 / 80
    schedule = ((1 - h) * 0.8 + h * 0.2, (1 - h) * 0.2 + h * 0.8)
    serving = softmax([0.1, -0.1])  # ½·exp(±(0.2 − 0.1))
    raw = [schedule[place] ** 0.5 * serving[place] ** 0.25 * 0.5**0.25 for place in (0, 1)]
    assert first == pytest.approx([each / sum(raw) for each in raw], abs=1e-5)


def test_hybrid_goes_back_after_three_times_worse() -> None:
    # measurements 0, 1 good; 2, 3, 4 worse than 1 by more than 1 %; 5 still; 6 good again
    metric = [1.0, 0.9, 0.95, 0.95, 0.95, 0.92, 0.9, 0.9]
    wishes = hybrid_with(lambda number: metric[number])
    good = [20 / 100, 80 / 100]  # in force when it was last not worse
    assert wishes[4] == pytest.approx(good)
    assert wishes[5] == pytest.approx(good)
    assert all(wish != pytest.approx(good) for wish in (*wishes[:4], *wishes[6:]))
    steady = hybrid_with(lambda number: 0.9)
    assert wishes[3] == pytest.approx(steady[3]), "twice is not enough"


def test_cov() -> None:
    policy = made("cov")
    losses = [(2.0, 1.0), (1.0, 1.1), (0.5, 0.9), (0.4, 1.0)]
    wishes = [wanted(policy, seen(step, each)) for step, each in enumerate(losses, start=1)]
    assert wishes[:2] == [[0.5, 0.5], [0.5, 0.5]]
    for step in (2, 3):  # the weights of a step come from the ratios before it
        variations = []
        for place in (0, 1):
            past = [each[place] for each in losses[:step]]
            ratios = [1.0] + [past[t] / float(np.mean(past[:t])) for t in range(1, step)]
            variations.append(math.sqrt(float(np.var(ratios)) + 1e-8) / float(np.mean(ratios)))
        assert wishes[step] == pytest.approx([each / sum(variations) for each in variations])


def test_softadapt() -> None:
    for weighted in (False, True):
        policy = made("softadapt", frequency=2, beta=0.5, loss_weighted=weighted)
        sights = [seen(step, each) for step, each in enumerate([(2, 1), (4, 1), (2, 1), (2, 2)], start=1)]
        assert wanted(policy, *sights[:2]) is None
        # means (3, 1) then (2, 1.5): s = (−1, ½), Σ|s| = 1.5
        raw = [math.exp(0.5 * -1 / 1.5), math.exp(0.5 * 0.5 / 1.5)]
        raw = [raw[0] * 2, raw[1] * 1.5] if weighted else raw
        assert wanted(policy, *sights[2:]) == pytest.approx([each / sum(raw) for each in raw])


def test_relobralo() -> None:
    policy = made("relobralo", alpha=0.9, rho=1.0, temperature=0.5)
    assert wanted(policy, seen(1, (2, 1))) == [0.5, 0.5]
    policy.weigh(seen(2, (1, 1)))
    first = [0.9 * 1.0 + 0.1 * 2 * each for each in softmax([0.5 / 0.5, 1 / 0.5])]
    assert policy.memory["lambdas"] == pytest.approx(first)
    policy.weigh(seen(3, (1, 0.5)))
    second = [0.9 * old + 0.1 * 2 * each for old, each in zip(first, softmax([1 / 0.5, 0.5 / 0.5]), strict=True)]
    assert policy.memory["lambdas"] == pytest.approx(second)
    back = made("relobralo", alpha=0.9, rho=0.0, temperature=0.5)  # always looks back to the start
    for step, each in enumerate([(2, 1), (1, 1), (1, 0.5)], start=1):
        back.weigh(seen(step, each))
    start, last = softmax([0.5 / 0.5, 0.5 / 0.5]), softmax([1 / 0.5, 0.5 / 0.5])
    assert back.memory["lambdas"] == pytest.approx(
        [0.9 * 2 * a + 0.1 * 2 * b for a, b in zip(start, last, strict=True)]
    )


def test_dwa() -> None:
    policy = made("dwa", frequency=2, temperature=2.0)
    sights = [seen(step, each) for step, each in enumerate([(2, 1), (4, 1), (2, 1), (1, 1)], start=1)]
    assert [policy.weigh(each).weights for each in sights[:3]] == [None] * 3
    assert policy.weigh(sights[3]).weights == pytest.approx(softmax([1.5 / 3 / 2, 1 / 1 / 2]))


def test_famo() -> None:
    policy = made("famo", beta=0.5, gamma=0.1)
    assert wanted(policy, seen(1, (2, 1))) == pytest.approx([1 / 3, 2 / 3]), "z is equal: in proportion to 1 / L"
    again = wanted(policy, seen(2, (1, 1)))
    # falls (ln 2, 0), z = ½: Jᵀδ = ½(δ − mean δ) = (¼ ln 2, −¼ ln 2); ξ = −½ of it
    xi = [-0.125 * math.log(2), 0.125 * math.log(2)]
    assert policy.memory["xi"] == pytest.approx(xi)
    assert again == pytest.approx(softmax(xi)), "what has fallen more loses weight"
    policy.weigh(seen(3, (1, 1)))
    assert policy.memory["xi"] == pytest.approx([each * (1 - 0.5 * 0.1) for each in xi]), "nothing fell: decay alone"


def test_rlw() -> None:
    drawn = [made("rlw").weigh(seen(step, (1, 1))).weights for step in range(1, 2001)]
    logs = [math.log(weights[0] / weights[1]) for weights in drawn if weights is not None]
    assert np.mean(logs) == pytest.approx(0, abs=0.1)
    assert np.std(logs) == pytest.approx(math.sqrt(2), rel=0.05), "the difference of two standard normals"


# ── the simplex ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_on_simplex() -> None:
    assert on_simplex([2, 6]) == [0.25, 0.75]
    assert on_simplex([0, 1]) == pytest.approx([0.05, 0.95])
    assert on_simplex([0, 0.05, 0.95]) == pytest.approx([0.05, 0.05, 0.9]), "raising one sinks another"
    assert on_simplex([1.0] + [0.0] * 19) == pytest.approx([0.05] * 20)
    for bad in ([0.0, 0.0], [-1, 2], [math.nan, 1], [math.inf, 1]):
        with pytest.raises(TrainingError, match="wanted finite numbers"):
            on_simplex(bad)


def test_towards() -> None:
    assert towards([0.5, 0.5], [0.55, 0.45]) == [0.55, 0.45]
    assert towards([0.5, 0.5], [0.9, 0.1]) == pytest.approx([0.6, 0.4])


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"first": 1, "secnd": 1}, "did you mean 'second'"),
        ({"first": 1}, "nothing for second"),
        ({"first": 1, "second": -1}, "wanted a finite number ≥ 0"),
        ({"first": 0, "second": 0}, "sums to 0"),
        ({"first": 1, "second": 0.01}, r"share of 0.0099; wanted at least 0.05.*leave that loss out"),
    ],
)
def test_shares_that_make_no_sense(given: dict[str, float], match: str) -> None:
    with pytest.raises(TrainingError, match=match):
        shares("weights", given, NAMES)


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("performance", {}, "did you mean 'performance_based'"),
        ("rlw", {"beta": 1}, "unknown option of rlw 'beta'; there are none"),
        ("dwa", {"temprature": 1}, "did you mean 'temperature'"),
        ("dwa", {"temperature": 0}, "wanted a finite number above 0"),
        ("schedule_based", {"shape": "square"}, "wanted one of linear, cosine"),
        ("softadapt", {"beta": math.nan}, "beta is nan"),
        ("relobralo", {"rho": 2}, "wanted a number from 0 to 1"),
    ],
)
def test_bad_options(name: str, options: dict[str, Any], match: str) -> None:
    with pytest.raises(TrainingError, match=match):
        made(name, **options)


def test_names_are_read_kindly_and_options_are_listed() -> None:
    assert type(made("Schedule-Based")) is POLICIES["schedule_based"]
    assert policy_options("hybrid") == ("start", "end", "shape", "eta")
    with pytest.raises(TrainingError, match=r"adaptation_frequency is 0; wanted a whole number ≥ 1"):
        Setting(NAMES, 0)
