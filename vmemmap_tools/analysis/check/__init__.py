# SPDX-License-Identifier: LGPL-2.1-or-later
"""Consistency rules for the vmemmap, and what runs them.

A rule is a small generator function with its metadata (`registry.rule`), in the file of
its family. Importing this package registers all of them.
"""

from __future__ import annotations

from . import (
    backing_frames,
    counters,
    folio_contents,
    folios,
    mapping,
    pgmap_blocks,
    pgmap_pages,
    pgmap_ranges,
    pgmaps,
    pools,
    section_orders,
    sections,
    tail_contents,
    tails,
)
from .findings import Finding, Place
from .registry import RULES, Rule
from .run import Account, Checker

__all__ = ["RULES", "Account", "Checker", "Finding", "Place", "Rule"]

_FAMILIES = (
    sections,
    mapping,
    section_orders,
    tail_contents,
    tails,
    folios,
    folio_contents,
    pools,
    backing_frames,
    counters,
    pgmaps,
    pgmap_pages,
    pgmap_blocks,
    pgmap_ranges,
)
