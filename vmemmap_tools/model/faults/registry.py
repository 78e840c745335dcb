# SPDX-License-Identifier: LGPL-2.1-or-later
"""The registry of faults: names, what they imitate, which rules they violate.

A fault changes an image, never a machine: the books go on telling what should be.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmemmap_tools.model.image import Image

__all__ = ["FAULTS", "Fault", "NotApplicable", "Place", "Planted", "apply", "fault"]

Place = dict[str, Any]
"""Where a fault was put, in the words of the books."""


class NotApplicable(ValueError):
    """The machine has nothing that this fault could corrupt."""


@dataclass(frozen=True)
class Fault:
    """A named corruption."""

    name: str
    description: str
    imitates: str
    """The kernel bug that leaves such a dump."""
    rules: tuple[str, ...]
    """The rules it violates, by the ids that `vmemmap check` knows."""
    implied: tuple[str, ...]
    """Rules that its consequences may break besides, as far as a machine has what they
    speak of: a frame mapped twice leaves another without a user, for the counters."""
    plant: Callable[[Image, random.Random], Place]


@dataclass(frozen=True)
class Planted:
    """A fault in an image, and where."""

    fault: Fault
    where: Place

    def as_dict(self) -> dict[str, Any]:
        return {
            "fault": self.fault.name,
            "rules": list(self.fault.rules),
            "implied": list(self.fault.implied),
            "where": self.where,
        }


FAULTS: dict[str, Fault] = {}


def fault(
    name: str, rules: str, imitates: str, *, implied: str = ""
) -> Callable[
    [Callable[[Image, random.Random], Place]], Callable[[Image, random.Random], Place]
]:
    """Register a function as a fault; its docstring is the description."""

    def register(
        plant: Callable[[Image, random.Random], Place],
    ) -> Callable[[Image, random.Random], Place]:
        description = " ".join((plant.__doc__ or "").split())
        FAULTS[name] = Fault(
            name,
            description,
            imitates,
            tuple(rules.split()),
            tuple(implied.split()),
            plant,
        )
        return plant

    return register


def apply(image: Image, names: Sequence[str], seed: int = 0) -> list[Planted]:
    """Plant faults in order; the same name may come more than once.

    Raises ValueError for an unknown name, NotApplicable where a fault finds no place.
    """
    planted = []
    for index, name in enumerate(names):
        if name not in FAULTS:
            raise ValueError(f"no fault {name!r}; see the list of faults")
        rng = random.Random(f"{seed}:{index}:{name}")
        planted.append(Planted(FAULTS[name], FAULTS[name].plant(image, rng)))
    return planted
