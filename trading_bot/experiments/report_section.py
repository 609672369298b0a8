"""One section of a page that several experiments write, and the tables in it."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from trading_bot import __version__
from trading_bot.experiments.statistics import Difference


def write_section(path: Path, section: str, page_title: str) -> None:
    """Put a section into the page, in the place of an older one of its title; other sections stay.

    Parameters
    ----------
    section : its first line is its title, "## …"
    page_title : the first line, "# …", of a page that does not exist yet
    """
    title = section.partition("\n")[0]
    page = path.read_text(encoding="utf-8") if path.exists() else f"{page_title}\n"
    before, found, rest = page.partition(f"\n{title}\n")
    after = "\n## " + rest.split("\n## ", 1)[1] if found and "\n## " in rest else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{before.rstrip()}\n\n{section}\n{after}", encoding="utf-8")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is words and the others numbers."""
    aligned = ["---", *("---:" for _ in header[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, aligned, *rows))


def how_it_was_measured(source: str, sha256: str, more: str = "") -> str:
    """Versions, machine, data; `more` is told of the machine."""
    return (
        f"### How it was measured\n\nPython {platform.python_version()}, trading-bot {__version__}, torch "
        f"{torch.__version__}, numpy {np.__version__}, one thread, {os.cpu_count()} cores ({platform.machine()}){more}."
        f"\n\nCandles: {source}, sha256 `{sha256}`."
    )


def between(each: Difference | None, factor: float) -> str:
    """A difference and its interval in units of 1 / factor, or a dash; a negative factor turns its sign."""
    if each is None:
        return "–"
    value, low, high = (factor * number + 0.0 for number in (each.value, each.low, each.high))  # no −0
    low, high = sorted((low, high))
    return f"{value:+.2f} ({low:+.2f} … {high:+.2f})"


def drawn_from(seeds: int, folds: int) -> str:
    """What the paired bootstrap draws, and how far its intervals can be trusted: see `paired_difference`."""
    few = [what for what, count in (("one seed", seeds), ("one fold", folds)) if count == 1]
    trust = (
        f"of {' and '.join(few)} alone: they say nothing of others" if few
        else f"with {folds} folds that truly differ they are {'much' if folds < 4 else 'somewhat'} too narrow"
    )  # fmt: skip
    return f"{counted(seeds, 'seed')}, {counted(folds, 'fold')} and blocks of two horizons ({trust})"


def counted(count: int, what: str) -> str:
    """So many of them."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def chance(p: float | None) -> str:
    """A p-value, or a dash where there is none."""
    return "–" if p is None else f"{p:.3f}" if p >= 0.001 else "< 0.001"


def listed(names: Sequence[str]) -> str:
    """Names in a row."""
    return ", ".join(names) or "none"
