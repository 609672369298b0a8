"""What the configurations of networks have in common: sizes that are checked before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from numbers import Integral
from typing import Any, NamedTuple, TypeVar

from torch import nn

from trading_bot.errors import ConfigurationError, unknown

C = TypeVar("C")


class Architecture(NamedTuple):
    """A network and the dataclass of its sizes, from which alone it is built."""

    config: type[Any]
    module: Callable[[Any], nn.Module]


def configured(config: type[C], sizes: Mapping[str, Any]) -> C:
    """A configuration from sizes by name, as a user or a JSON file gives them (a list stands for a tuple).

    Raises
    ------
    ConfigurationError
        If a name is not a size of this configuration (the message lists those that are), or a size is out of its range.
    """
    known = [each.name for each in fields(config)]  # type: ignore[arg-type]  # every configuration is a dataclass
    for name in sizes:
        if name not in known:
            raise ConfigurationError(unknown(f"size of {config.__name__}", name, known))
    return config(**{name: tuple(size) if isinstance(size, list) else size for name, size in sizes.items()})


def check_whole(config: object, *names: str) -> None:
    """Refuse a size that is no whole number ≥ 1; what is whole becomes an `int`, for JSON's sake."""
    for name in names:
        size = getattr(config, name)
        number = _whole(size)
        if number is None or number < 1:
            raise ConfigurationError(f"{type(config).__name__}.{name} is {size!r}; wanted a whole number ≥ 1")
        object.__setattr__(config, name, number)


def check_several(config: object, *names: str) -> None:
    """Refuse sizes that are not a tuple of at least one whole number ≥ 1."""
    for name in names:
        sizes = getattr(config, name)
        numbers = [_whole(size) for size in sizes] if isinstance(sizes, tuple) else []
        if not numbers or not all(number is not None and number >= 1 for number in numbers):
            raise ConfigurationError(
                f"{type(config).__name__}.{name} is {sizes!r}; wanted one or more whole numbers ≥ 1, such as (64, 32)"
            )
        object.__setattr__(config, name, tuple(numbers))


def check_dropout(config: object) -> None:
    """Refuse a `dropout` outside [0, 1)."""
    dropout = getattr(config, "dropout")  # noqa: B009  # `config` is any dataclass that has it
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ConfigurationError(f"{type(config).__name__}.dropout is {dropout!r}; wanted a share from 0 to below 1")
    object.__setattr__(config, "dropout", float(dropout))


def _whole(size: object) -> int | None:
    """The number, of Python or NumPy; None where it is not whole."""
    return None if isinstance(size, bool) or not isinstance(size, Integral) else int(size)
