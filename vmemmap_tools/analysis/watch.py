# SPDX-License-Identifier: LGPL-2.1-or-later
"""One look at a running kernel's pools and savings, and how it differs from the last.

A look is a JSON-ready row. Changes are against the look before, None in the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..kernel.kernel import Kernel
from .hvo import pools_by_node
from .summary import Summary, add

__all__ = ["CHANGING", "look", "with_changes"]

CHANGING = (
    "total",
    "optimised",
    "saved_hugetlb_bytes",
    "saved_dax_bytes",
    "saved_bytes",
)
"""Keys of a look that get a ``*_change`` beside them."""


def look(kernel: Kernel) -> dict[str, Any]:
    """Pools by size and node, all folios, what is saved by whom, and what is mapped.

    ``total`` and ``free`` are the kernel's own counts, ``optimised`` is found in the
    page tables.
    """
    page = kernel.geometry.page_size
    pools = [
        {
            # An order that no folio can have is damage, not a size.
            "size_bytes": page << row.order
            if row.order <= kernel.geometry.max_folio_order
            else None,
            "node": row.node,
            "total": row.total,
            "free": row.free,
            "optimised": row.optimised,
            "saved_bytes": row.saved_pages * page,
        }
        for row in pools_by_node(kernel)
        if row.order <= kernel.geometry.max_folio_order
    ]
    totals = Summary(kernel).totals()
    knows_pools, knows_all = (
        kernel.is_complete("hstates"),
        kernel.is_complete("folios", "zones"),
    )
    return {
        "total": add(pool["total"] for pool in pools) if knows_pools else None,
        "free": add(pool["free"] for pool in pools) if knows_pools else None,
        "optimised": sum(pool["optimised"] for pool in pools) if knows_all else None,
        "saved_hugetlb_bytes": totals["saved_hugetlb_bytes"],
        "saved_dax_bytes": totals["saved_dax_bytes"],
        "saved_bytes": totals["saved_bytes"],
        "mapped_bytes": totals["mapped_bytes"],
        "pools": pools,
    }


def with_changes(
    now: Mapping[str, Any], before: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A look with a ``*_change`` behind each of `CHANGING`, in its pools too."""
    pools = {} if before is None else {_place(p): p for p in before["pools"]}
    row = _with_changes(now, before)
    row["pools"] = [_with_changes(p, pools.get(_place(p))) for p in now["pools"]]
    return row


def _place(pool: Mapping[str, Any]) -> tuple[int, int]:
    return pool["size_bytes"], pool["node"]


def _with_changes(
    now: Mapping[str, Any], before: Mapping[str, Any] | None
) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, value in now.items():
        row[key] = value
        if key in CHANGING:
            old = None if before is None else before[key]
            known = value is not None and old is not None
            row[f"{key}_change"] = value - old if known else None
    return row
