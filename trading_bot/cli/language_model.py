"""The options that choose what Time-LLM reads with, and the sizes they become."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

MODEL = "time_llm"

_OPTIONS = (
    click.option("--llm", type=click.Choice(["backbone", "attention", "none"]), help="What reads time_llm's patches: a "
                 "language model, one attention layer, or nothing. [default: backbone]"),
    click.option("--llm-path", "--llm_path", metavar="DIR", help="Directory of time_llm's language model, as "
                 "transformers saves it; nothing is downloaded. [default: a tiny random one, never trained]"),
    click.option("--llm-layers", "--llm_layers", type=click.IntRange(min=1), metavar="N",
                 help="At most so many of its layers. [default: 6]"),
)  # fmt: skip


def language_model_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """`--llm`, `--llm-path` and `--llm-layers`."""
    for option in reversed(_OPTIONS):
        verb = option(verb)
    return verb


def language_model_sizes(given: Mapping[str, Any]) -> dict[str, Any]:
    """What these options say of Time-LLM's sizes; of the path, the whole: a daemon may look for it from elsewhere.

    Raises
    ------
    click.UsageError
        If one was given with another model, or a language model together with what stands in its place.
    """
    sizes = {name: given[name] for name in ("llm", "llm_path", "llm_layers") if given[name] is not None}
    if sizes and given["model"].lower() != MODEL:
        option = next(iter(sizes)).replace("_", "-")
        raise click.UsageError(f"--{option} is for --model {MODEL}, not {given['model']}; leave it out")
    reader = sizes.get("llm", "backbone")
    if reader != "backbone" and len(sizes) > 1:
        raise click.UsageError(
            f"--llm {reader} reads without a language model; leave out --{list(sizes)[1].replace('_', '-')}"
        )
    if "llm_path" in sizes:
        from trading_bot.models.time_llm_backbone import RANDOM

        if sizes["llm_path"] != RANDOM:
            sizes["llm_path"] = str(Path(sizes["llm_path"]).expanduser().resolve())
    return sizes
