# SPDX-License-Identifier: LGPL-2.1-or-later
"""HugeTLB pools: what is optimised, what is not and why, what is saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..kernel.hugetlb import Folio, Hstate
from ..kernel.kernel import Kernel

__all__ = [
    "OPTIMISED_FLAG",
    "UNKNOWN",
    "PoolNode",
    "is_switched_on",
    "pools_by_node",
    "savable_pages",
    "static_key_count",
    "why_not",
]

OPTIMISED_FLAG = "vmemmap_optimized"
UNKNOWN = "unknown"
POLICIES = (
    "vmemmap_optimize_enabled",  # 30152245c63b (in v6.0)
    "vmemmap_optimize_mode",  # 78f39084b41d (in v5.19)
    "hugetlb_free_vmemmap_enabled",  # e9fdff87e893 (in v5.14)
)
POLICY_KEY = "hugetlb_free_vmemmap_enabled_key"
"""The policy in a static key: a6b40850c442 (in v5.18)."""


@dataclass
class PoolNode:
    """One pool on one node: the kernel's own counts and what was found.

    ``reserved`` and ``overcommit`` are kept for a whole pool, not by node. Where the
    ``hstate`` is not known, what it counts is None. The backing of ``unknown`` of the
    folios could not be read.
    """

    hstate: Hstate | None
    order: int
    node: int
    total: int | None
    free: int | None
    surplus: int | None
    found: int = 0
    unknown: int = 0
    optimised: int = 0
    flagged: int | None = 0
    saved_pages: int = 0
    savable_pages: int | None = 0
    reasons: Counter[str] = field(default_factory=Counter)


def pools_by_node(kernel: Kernel) -> Iterator[PoolNode]:
    """Every pool on every online node, largest pages last.

    Where pools are unknown: the orders and nodes of the folios that are there.
    """
    nodes = sorted({zone.node for zone in kernel.zones})
    hstates = {h.order: h for h in kernel.hugetlb.hstates}
    rows = {
        (order, node): _pool(hstates[order], order, node)
        for order in sorted(hstates)
        for node in nodes
    }
    # Folios name nodes and pools that could not be read; others are damage.
    others = not kernel.is_complete("zones", "hstates")
    for folio, count in kernel.hugetlb.for_each_kind():
        place = folio.order, folio.node
        if place not in rows and others:
            rows[place] = _pool(hstates.get(folio.order), *place)
        row = rows.get(place)
        if row is not None:
            _count(kernel, row, folio, count)
    yield from (rows[place] for place in sorted(rows))


def _pool(hstate: Hstate | None, order: int, node: int) -> PoolNode:
    if hstate is None:
        return PoolNode(None, order, node, None, None, None, flagged=None)
    return PoolNode(
        hstate,
        order,
        node,
        _of_node(hstate.total_by_node, node),
        _of_node(hstate.free_by_node, node),
        _of_node(hstate.surplus_by_node, node),
    )


def _of_node(values: tuple[int, ...], node: int) -> int:
    return values[node] if node < len(values) else 0


def _count(kernel: Kernel, row: PoolNode, folio: Folio, count: int) -> None:
    row.found += count
    row.unknown += 0 if folio.backing.is_known else count
    row.saved_pages += count * folio.backing.saved_pages
    if row.flagged is not None:
        row.flagged += count * bool(kernel.hugetlb.has_flag(folio, OPTIMISED_FLAG))
    if folio.backing.is_optimised:
        row.optimised += count
        return
    reason = why_not(kernel, folio)
    row.reasons[reason] += count
    more = savable_pages(kernel, folio, reason)
    if row.savable_pages is not None:
        row.savable_pages = None if more is None else row.savable_pages + count * more


def why_not(kernel: Kernel, folio: Folio) -> str:
    """Why a folio is not optimised, as far as a dump can tell.

    "eligible" means that nothing stands against it: it was made while the policy was
    off, memory was short, or its vmemmap was restored. "unknown" is where what decides
    could not be read, or no type describes it.
    """
    g = kernel.geometry
    if not folio.backing.is_known:
        return UNKNOWN
    if not kernel.has("hugetlb-hvo"):
        return UNKNOWN if kernel.unknown_feature("hugetlb-hvo") else "no-hvo"
    if g.vmemmap_pages(folio.order) <= kernel.kept_pages:
        return "too-small"
    if not g.struct_page_size_is_power_of_two:
        return "struct-page-size"
    is_self_hosted = kernel.self_hosting.is_self_hosted_frame(folio.backing.head_frame)
    if is_self_hosted is None:
        return UNKNOWN
    return "self-hosted" if is_self_hosted else "eligible"


def is_switched_on(kernel: Kernel) -> bool | None:
    """Whether new folios are to be optimised; None if this cannot be told.

    Says nothing of the folios there are. Raises `Fault`.
    """
    for name in POLICIES:
        value = kernel.target.unsigned(name)
        if value is not None:
            return bool(value)
    count = static_key_count(kernel, POLICY_KEY)
    return None if count is None else count > 0


def static_key_count(kernel: Kernel, name: str) -> int | None:
    """``static_key.enabled`` of a variable; None if it is unknown. Raises `Fault`."""
    variable, key = kernel.target.variable(name), kernel.target.struct("static_key")
    if variable is None or key is None or "enabled" not in key:
        return None
    data = kernel.memory.read(variable.address + key.offset("enabled"), 4)
    return int.from_bytes(data, kernel.target.byteorder, signed=True)


def savable_pages(
    kernel: Kernel, folio: Folio, reason: str | None = None
) -> int | None:
    """Vmemmap pages that optimising this folio would free; None if unknown."""
    if folio.backing.is_optimised:
        return 0
    reason = reason or why_not(kernel, folio)
    if reason != "eligible":
        return None if reason == UNKNOWN else 0
    return max(0, folio.backing.pages - kernel.kept_pages)
