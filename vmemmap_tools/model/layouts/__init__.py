# SPDX-License-Identifier: LGPL-2.1-or-later
"""Layouts of real kernels as data, and what makes other generations out of them.

Each ``*.btf`` here is a packaged kernel's BTF cut down by `layouts.reduce`; index.json
says which kernel. `load` gives the types of a generation of `GENERATIONS`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from vmemmap_tools.model.layouts.edits import Edit, edited
from vmemmap_tools.model.layouts.generations import EXTRAS, GENERATIONS, Generation
from vmemmap_tools.model.layouts.origin import INDEX_NAME, Origin
from vmemmap_tools.model.types import TypeGraph

__all__ = [
    "EXTRAS",
    "GENERATIONS",
    "Edit",
    "Generation",
    "bases",
    "load",
    "origin",
]

DIRECTORY = Path(__file__).parent


def bases() -> list[str]:
    """Names of the packaged kernels whose layouts are here, oldest first."""
    return list(dict.fromkeys(g.base for g in GENERATIONS.values()))


@lru_cache(maxsize=64)
def origin(base: str) -> Origin:
    """Which kernel a base layout was taken from. Raises KeyError for another name."""
    index = json.loads((DIRECTORY / INDEX_NAME).read_text())
    return Origin(**index[base])


def load(generation: str, extras: Sequence[str] = ()) -> TypeGraph:
    """The types of a generation, with the named `EXTRAS` (configuration options).

    Raises KeyError for an unknown name.
    """
    return _load(generation, tuple(extras))


@lru_cache(maxsize=64)
def _load(generation: str, extras: tuple[str, ...]) -> TypeGraph:
    chosen = GENERATIONS[generation]
    base = TypeGraph.from_btf((DIRECTORY / f"{chosen.base}.btf").read_bytes())
    edits = chosen.edits + tuple(edit for name in extras for edit in EXTRAS[name])
    return edited(base, edits)
