"""`python -m trading_bot.experiments.meta_training` teaches the loss monitor and the controller, and judges them.

Both learn on small synthetic regressions and are tested, frozen, on others, paired with equal weights. Each is shipped,
to where its weight policy looks, only if its interval excludes 0 on the better side; else the policy does nothing. A
test too small to decide by leaves what is shipped as it is.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from loguru import logger

from trading_bot.experiments.meta_training_report import MetaFindings, compare, write
from trading_bot.training.loss_meta_training import MetaConfig, meta_train, offline_test
from trading_bot.training.monitor_shipped import CONTROLLER, FOLDER, MONITOR

COUNTS = (
    "tasks", "episodes", "updates", "generations", "population", "judged", "controller_steps", "test_tasks",
    "test_seeds", "seed",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    default = MetaConfig()
    parser = argparse.ArgumentParser(prog="python -m trading_bot.experiments.meta_training", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/evidence"), help="folder for page and picture")
    parser.add_argument("--work", type=Path, default=Path("logs/runs/meta-training"), help="where both are kept")
    parser.add_argument("--ship", type=Path, default=FOLDER, help="where one goes that proved its worth")
    for name in COUNTS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(default, name))
    parser.add_argument("--steps", type=int, default=default.budget.steps, help="of a training")
    options = parser.parse_args(arguments)
    config = replace(
        default,
        budget=replace(default.budget, steps=options.steps),
        **{name: getattr(options, name) for name in COUNTS},
    )
    logger.remove()  # a line for every one of hundreds of trainings
    threads, began, spent = torch.get_num_threads(), time.monotonic(), time.process_time()
    torch.set_num_threads(1)
    try:
        learned = meta_train(config, _tell)
        learning = time.process_time() - spent
        runs = offline_test(learned, config, _tell)
    finally:
        torch.set_num_threads(threads)
    changed = "".join(
        f" --{name.replace('_', '-')} {value}"
        for name, value in vars(options).items()
        if name not in ("output", "work", "ship") and value != parser.get_default(name)
    )
    findings = MetaFindings(
        config=config, learned=learned, runs=runs, comparisons=compare(runs),
        command=f"python -m trading_bot.experiments.meta_training --output docs/evidence{changed}",
        learning=learning, testing=time.process_time() - spent - learning, elapsed=time.monotonic() - began,
    )  # fmt: skip
    learned.monitor.save(options.work / MONITOR)
    learned.controller.save(options.work / CONTROLLER)
    if findings.decides():
        _ship(findings, options.ship)
    write(findings, options.output)
    print(findings.verdict())


def _ship(findings: MetaFindings, folder: Path) -> None:
    """Put there what proved its worth, and take away what did not."""
    learned, facts = findings.learned, {"command": findings.command}
    for name in (MONITOR, CONTROLLER):
        (folder / name).unlink(missing_ok=True)
    if findings.ships("monitor_only"):
        learned.monitor.save(folder / MONITOR, facts)
    if findings.ships("controller_only"):
        learned.controller.save(folder / CONTROLLER, facts)


def _tell(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
