# SPDX-License-Identifier: LGPL-2.1-or-later
"""The comparisons of dumps, for other tests that make them on something else."""

from __future__ import annotations

from collections.abc import Callable, Collection
from types import ModuleType
from typing import Any

from . import (
    test_dax,
    test_hugetlb,
    test_map,
    test_page,
    test_sections,
    test_summary,
    test_walk,
    test_zones,
)

__all__ = ["comparisons"]

OF_VERBS = (
    test_dax,
    test_hugetlb,
    test_map,
    test_page,
    test_sections,
    test_summary,
    test_walk,
    test_zones,
)


def comparisons(
    *others: ModuleType, without: Collection[str] = ()
) -> dict[str, Callable[..., Any]]:
    """The tests of the verbs, then of *others*, by name; not those in *without*."""
    return {
        name: test
        for module in (*OF_VERBS, *others)
        for name, test in vars(module).items()
        if name.startswith("test_") and name not in without
    }
