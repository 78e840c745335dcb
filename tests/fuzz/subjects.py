# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every kind of input that a fuzz damages."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Callable

from .capsules import SUBJECTS as CAPSULES
from .descriptions import SUBJECTS as DESCRIPTIONS
from .dumps import SUBJECTS as DUMPS
from .model import MachineDescription
from .structures import Structures
from .subject import Subject

__all__ = ["SUBJECTS", "draw_of"]

SUBJECTS: dict[str, Callable[[Path], Subject]] = {
    **DUMPS,
    **DESCRIPTIONS,
    **CAPSULES,
    "machine description": MachineDescription,
    "structures 6.12": lambda folder: Structures(folder, "6.12"),
    "structures 7.3": lambda folder: Structures(folder, "7.3"),
    "structures seed": lambda folder: Structures(folder, "seed"),
}


def draw_of(seed: int, subject: str, number: int) -> Random:
    """The draws of one run: the same in every process."""
    return Random(f"{seed} {subject} {number}")
