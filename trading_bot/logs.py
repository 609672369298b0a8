"""The log people follow: one event a line, the same order of facts every time."""

from __future__ import annotations

from typing import Any

from loguru import logger


def event(kind: str, subject: str, text: str = "", *, level: str = "INFO", **facts: Any) -> None:
    """Write one line: kind, what it is about (usually "SYMBOL TIMEFRAME"), words, then `key=value` facts.

    Floats are shown with four significant digits; pass strings or Decimals where every digit matters.
    """
    tail = "  ".join(f"{key}={_show(value)}" for key, value in facts.items())
    line = "  ".join(part for part in (f"{kind:<9} {subject:<12}".rstrip(), text, tail) if part)
    logger.opt(depth=1).log(level, "{}", line)


def _show(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
