"""Verb `demo-adaptive-loss`: weights that adapt, on a small real training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trading_bot.cli import show
from trading_bot.cli.options import json_option, verbose_option
from trading_bot.cli.train_adaptive import print_effectiveness

if TYPE_CHECKING:
    from trading_bot.training.adaptive_loss_trainer import AdaptiveLossTrainer

BARS, EPOCHS, BATCH = 3_000, 12, 64
SHOWN = 8  # lines of the table
_SAME = {"token_normalize_func": lambda token: token.replace("_", "-")}


@click.command("demo-adaptive-loss", context_settings=_SAME)
@verbose_option
@click.option("--loss-combination", default="comprehensive", show_default=True, help="Such as trading_focused.")
@click.option("--adaptation-strategy", default="performance_based", show_default=True, help="Such as hybrid, cov.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--plots", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER", help="Also draw pictures.")
@json_option
def demo_adaptive_loss(
    loss_combination: str, adaptation_strategy: str, seed: int, plots: Path | None, as_json: bool
) -> None:
    """Fit a small network on a synthetic market for a few seconds, and show how the losses' weights move.

    The losses are those of a real training; whether adapting helps is another question, which this cannot answer.

    \b
    Example: trading-bot demo-adaptive-loss --adaptation_strategy hybrid
    """
    from trading_bot.logs import console_only

    console_only()
    trainer, results = _train(loss_combination, adaptation_strategy, seed)
    pictures = []
    if plots is not None:
        pictures = [
            trainer.plot_loss_evolution(plots / "losses.png"),
            trainer.plot_weight_evolution(plots / "weights.png"),
        ]
    lines = [{"step": line.step, "weights": dict(zip(trainer.loss.names, line.weights, strict=True))}
             for line in _spread(trainer.loss.record.lines)]  # fmt: skip
    if as_json:
        show.print_json({"evolution": lines, "pictures": [str(path) for path in pictures], **results.as_json()})
        return
    columns = ("step>", *(f"{name}>" for name in trainer.loss.names))
    rows = [(each["step"], *(f"{weight:.3f}" for weight in each["weights"].values())) for each in lines]
    show.table(columns, rows, f"weights, {adaptation_strategy} over {loss_combination}; equal for the first 100 steps")
    print_effectiveness(results.effectiveness)
    metric = results.history["val_loss"]
    click.echo(f"fixed metric on the validation rows: {metric[0]:.4f} after one epoch, {min(metric):.4f} at best")
    for path in pictures:
        click.echo(f"picture     {path}")


def _train(combination: str, strategy: str, seed: int) -> tuple[AdaptiveLossTrainer, Any]:
    import torch

    from trading_bot.market_data.config import SyntheticConfig
    from trading_bot.market_data.synthetic import SyntheticMarket
    from trading_bot.models.registry import build_model
    from trading_bot.training.adaptive_loss_trainer import create_adaptive_trainer
    from trading_bot.training.data_loaders import create_data_loaders
    from trading_bot.training.forecaster import ScaledForecast
    from trading_bot.training.optimizers import create_optimizer
    from trading_bot.training.prepared_data import prepare_data

    market = SyntheticMarket(SyntheticConfig(symbols=("BTC/USDT",), bars=BARS))
    data = prepare_data(market.candles("BTC/USDT", market.timeframe))
    torch.manual_seed(seed)
    train, val = create_data_loaders(data.X, data.y, BATCH, gap=data.horizon, seed=seed)
    network = build_model("cnn", channels=(16, 16), kernels=(3, 3), dense=(16,))
    model = ScaledForecast(network, float(train.dataset.y.std()))
    trainer = create_adaptive_trainer(
        model, create_optimizer(model, "adamw"), "cpu", combination, "demo", adaptation_strategy=strategy,
        adaptation_frequency=25, seed=seed, gap=data.horizon,
    )  # fmt: skip
    trainer.show_progress = False
    return trainer, trainer.train(train, val, EPOCHS, log_interval=0)


def _spread(lines: Sequence[Any]) -> list[Any]:
    """A few of them, the last included."""
    every = max(1, len(lines) // SHOWN)
    return list(lines[::-1][::every])[::-1]
