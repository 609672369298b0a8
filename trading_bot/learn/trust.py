"""What a model that chooses among strategies says of an ensemble's weights: a factor for each strategy it knows.

Of its classes those that are strategies of the ensemble count, their probabilities scaled to sum 1: q. A strategy's
factor is n · q over the n of them, so that a model that holds all alike moves nothing, cut at 1 / LIMIT and LIMIT: a
model that is sure counts no more than a record at its best does, and no weight becomes zero. Strategies that it does
not know have a factor of 1. Classes that are no strategy here (flat, long, short) move no weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

LIMIT = 3.0  # the record's multiplier is at most e


@dataclass(frozen=True, slots=True)
class Trust:
    """What was said on one bar.

    `factors` are by strategy; one that is left out has a factor of 1. `words` tell where they come from, or why there
    are none.
    """

    factors: Mapping[str, float] = field(default_factory=dict)
    words: str = ""


def trust_factors(probabilities: Mapping[str, float], strategies: Sequence[str]) -> dict[str, float]:
    """Factors of those of `strategies` that have a probability, of which each is ≥ 0."""
    known = {name: probabilities[name] for name in strategies if name in probabilities}
    total = sum(known.values())
    if total <= 0.0:
        return dict.fromkeys(known, 1.0)
    return {name: min(LIMIT, max(1.0 / LIMIT, len(known) * one / total)) for name, one in known.items()}
