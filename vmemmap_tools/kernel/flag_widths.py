# SPDX-License-Identifier: LGPL-2.1-or-later
"""How many bits of a struct page's flags hold its node and its zone.

Mirrors ``include/linux/page-flags-layout.h``, whose macros no debug info has.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..target.base import Target
from .bare import types_are_known
from .bit_numbers import bit_number

__all__ = ["find_nodes_width", "find_zones_width"]

MAX_NODES = 1 << 16


def find_nodes_width(target: Target) -> tuple[int, str]:
    """(``NODES_WIDTH``, evidence): from array lengths, since NODES_SHIFT is a macro."""
    for length, source in _node_counts(target):
        if length and 0 < length <= MAX_NODES:
            return (length - 1).bit_length(), f"length of {source}"
    return 0, "no array of nodes"


def _node_counts(target: Target) -> Iterator[tuple[int | None, str]]:
    node_data = target.variable("node_data")
    if node_data is not None:
        yield node_data.type.length, "node_data"
    text = target.vmcoreinfo.get("LENGTH(node_data)")
    if text is not None:
        yield int(text, 0), "node_data (VMCOREINFO)"
    hstate = target.struct("hstate")
    if hstate is not None and "nr_huge_pages_node" in hstate:
        yield hstate["nr_huge_pages_node"].length, "hstate.nr_huge_pages_node"


def find_zones_width(target: Target) -> int | None:
    """``ZONES_WIDTH``: bits that number ``__MAX_NR_ZONES`` zones; None if unknown."""
    if not types_are_known(target):
        return None
    count = bit_number(target, "__MAX_NR_ZONES") or 1
    return (count - 1).bit_length()
