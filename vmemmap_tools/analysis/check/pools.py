# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules F7, F9 and F15: the books of the hugetlb pools.

Mirrors ``mm/hugetlb.c``: ``struct hstate``, its lists, and the static key that counts
optimised folios.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...kernel.hugetlb import Hstate
from ...kernel.hugetlb_lists import PoolList
from ..hvo import OPTIMISED_FLAG, static_key_count
from .clones import has_restored_clones
from .context import Context
from .findings import Place, Violation, hexed
from .known import RESTORE_COPIES_HEAD
from .registry import rule

__all__: list[str] = []

KEY = "hugetlb_optimize_vmemmap_key"


def _place(hstate: Hstate) -> Place:
    return Place("hstate", hstate.name or f"order {hstate.order}")


def _without_key(context: Context) -> str | None:
    if context.has_zone_tails:
        return "this kernel counts optimised folios nowhere"
    if context.kernel.target.variable(KEY) is None:
        return f"this kernel has no variable {KEY}"
    if static_key_count(context.kernel, KEY) is None:
        return "no type tells where a static key counts"
    if context.is_booting:
        return "the kernel was still booting: gigantic pages are counted late"
    return None


@rule(
    "F7",
    "the static key of the optimisation counts the optimised folios",
    severity="E",
    holds="kernels with hugetlb_optimize_vmemmap_key that counts (6.0 to 7.0)",
    reads=(KEY, "hugetlb folios"),
    bug="an increment without its decrement on a failure path, or the reverse",
    why="page_fixed_fake_head() looks for fake heads only with the key above 0: too "
    "low a count and compound_head() of aliased tails is wrong everywhere.",
    look=f"in drgn: prog['{KEY}'].key.enabled; vmemmap hvo: OPTIMISED",
    applies=_without_key,
    needs=("folios",),
    racy=True,
    exceptions="5.19 adds one while the mode is on. -1 is a transition in progress.",
)
def key_counts_folios(context: Context) -> Iterator[Violation]:
    value = static_key_count(context.kernel, KEY)
    if value is None or value == -1:
        return
    context.saw()
    optimised = sum(f.backing.is_optimised for f in context.folios)
    if value - optimised in _counted_besides(context):
        return
    variable = context.kernel.target.variable(KEY)
    assert variable is not None
    yield Violation(
        Place("variable", KEY),
        "static key out of step",
        f"{KEY} counts {value} optimised folios, but {optimised} share their vmemmap",
        optimised,
        value,
        hexed(address=variable.address),
        known_issue=RESTORE_COPIES_HEAD if has_restored_clones(context) else None,
    )


def _counted_besides(context: Context) -> tuple[int, ...]:
    """What the key may count besides folios: in 5.19 the mode, if it is on.

    ``hugetlb_vmemmap_init()`` switches the key off, but not the mode, where struct
    pages straddle pages.
    """
    hstate = context.kernel.target.struct("hstate")
    if hstate is None or "optimize_vmemmap_pages" not in hstate:
        return (0,)
    if not context.geometry.struct_page_size_is_power_of_two:
        return (0,)
    mode = context.kernel.target.unsigned("vmemmap_optimize_mode")
    return (0, 1) if mode is None else (int(mode > 0),)


@rule(
    "F9",
    "a pool's counts agree with each other, with its lists and with HPG_freed",
    severity="E",
    holds="all",
    reads=("hstates", "free and active lists"),
    bug="list corruption; a folio freed twice or to the wrong pool",
    why="allocation takes folios from these lists by these counts, under one lock.",
    look="/sys/kernel/mm/hugepages; in drgn: list_for_each_entry over "
    "hstate.hugepage_freelists",
    applies=Context.lacks_pools,
    racy=True,
    exceptions="Folios that are isolated for migration are on no list for a moment.",
    quick_omits="the lists",
)
def pool_counts_agree(context: Context) -> Iterator[Violation]:
    unknown = context.lacks_hpg("freed")
    if unknown is not None:
        context.leave_out(f"the flags of free folios, since {unknown}")
    for hstate in context.kernel.hugetlb.hstates:
        context.saw()
        yield from _sums(hstate)
        lists = _lists(context, hstate)
        on_lists = 0
        for one in lists:
            yield from _list_shape(one)
            on_lists += len(one.walk.entries)
            if one.node is not None and one.walk.is_complete:
                yield from _free_list(context, one)
        complete = lists and all(one.walk.is_complete for one in lists)
        if complete and on_lists > hstate.total:
            yield Violation(
                _place(hstate),
                "more folios on lists than in the pool",
                f"the lists of {hstate.name} hold {on_lists} folios, the pool "
                f"{hstate.total}",
                hstate.total,
                on_lists,
                hexed(hstate_va=hstate.va),
            )
        if complete:
            yield from _freed_flags(context, hstate, lists)


def _lists(context: Context, hstate: Hstate) -> list[PoolList]:
    """A pool's lists; none where not all of its nodes or folios are here."""
    for part in ("zones", "folios"):
        why = context.gap(part)
        if why is not None:
            context.leave_out(
                f"the lists of {hstate.name} are not checked, since {why}"
            )
            return []
    if not context.nodes:
        context.leave_out(f"the lists of {hstate.name}: no type tells what a node is")
        return []
    lists = [one for one in context.pool_lists if one.hstate.va == hstate.va]
    if not lists and not context.quick:
        context.leave_out(f"no type tells where the lists of {hstate.name} begin")
    return lists


def _sums(hstate: Hstate) -> Iterator[Violation]:
    for what, total, by_node in (
        ("nr_huge_pages", hstate.total, hstate.total_by_node),
        ("free_huge_pages", hstate.free, hstate.free_by_node),
        ("surplus_huge_pages", hstate.surplus, hstate.surplus_by_node),
    ):
        if sum(by_node) != total:
            yield Violation(
                _place(hstate),
                f"{what} is not the sum of its nodes",
                f"{what} of {hstate.name} is {total}, its nodes add up to "
                f"{sum(by_node)}",
                sum(by_node),
                total,
                hexed(hstate_va=hstate.va),
            )


def _list_shape(one: PoolList) -> Iterator[Violation]:
    kind = "active list" if one.node is None else f"free list of node {one.node}"
    damage = one.walk.damage
    if damage is None and one.strays:
        damage = f"{len(one.strays)} entries that are no struct page"
    if damage is not None:
        yield Violation(
            _place(one.hstate),
            "damaged list",
            f"the {kind} of {one.hstate.name} has {damage}",
            "a sound list",
            damage,
            {**hexed(list_va=one.head_va), "entries": len(one.walk.entries)},
        )


def _free_list(context: Context, one: PoolList) -> Iterator[Violation]:
    by_node = one.hstate.free_by_node
    assert one.node is not None
    counted = by_node[one.node] if one.node < len(by_node) else 0
    if len(one.walk.entries) != counted:
        yield Violation(
            _place(one.hstate),
            "free list and count differ",
            f"the free list of node {one.node} of {one.hstate.name} holds "
            f"{len(one.walk.entries)} folios, free_huge_pages_node says {counted}",
            counted,
            len(one.walk.entries),
            {**hexed(list_va=one.head_va), "node": one.node},
        )
    for pfn in one.pfns:
        folio = context.folios_by_pfn.get(pfn)
        if folio is not None and context.hpg(folio, "freed") is False:
            yield Violation(
                Place("folio", pfn),
                "free folio without HPG_freed",
                f"the folio at pfn {pfn:#x} is on a free list of {one.hstate.name} "
                "without HPG_freed",
                "HPG_freed",
                context.kernel.hugetlb.flag_names(folio),
                hexed(private=folio.private, list_va=one.head_va),
            )


def _freed_flags(
    context: Context, hstate: Hstate, lists: list[PoolList]
) -> Iterator[Violation]:
    free = {pfn for one in lists if one.node is not None for pfn in one.pfns}
    for folio in context.folios:
        if folio.order != hstate.order or not context.hpg(folio, "freed"):
            continue
        if folio.pfn not in free:
            yield Violation(
                Place("folio", folio.pfn),
                "HPG_freed off the free lists",
                f"the folio at pfn {folio.pfn:#x} has HPG_freed but is on no free "
                f"list of {hstate.name}",
                "on a free list",
                "on none",
                hexed(private=folio.private, hstate_va=hstate.va),
            )


@rule(
    "F15",
    "no free folio is kept as surplus because its vmemmap could not be restored",
    severity="I",
    holds="kernels with hugetlb vmemmap optimisation",
    reads=("hstates", "hugetlb folios"),
    bug="none: memory was too short to give the vmemmap back",
    why="such a folio could not be freed; it goes back to the free list as surplus "
    "and stays optimised.",
    look="/sys/kernel/mm/hugepages/*/surplus_hugepages; vmemmap hvo --folios",
    applies=lambda context: (
        context.lacks("hugetlb-hvo") or context.lacks_hpg("freed", OPTIMISED_FLAG)
    ),
    racy=True,
    exceptions="Legal. Free folios that are reserved stand beside surplus in use when "
    "a pool was made smaller than its use.",
)
def no_free_surplus(context: Context) -> Iterator[Violation]:
    for hstate in context.kernel.hugetlb.hstates:
        context.saw()
        # Reserved ones are kept whatever the size of the pool.
        available = hstate.free - hstate.reserved
        for node, surplus in enumerate(hstate.surplus_by_node):
            if not surplus or available <= 0:
                continue
            kept = [
                f.pfn
                for f in context.folios
                if f.order == hstate.order
                and f.node == node
                and f.backing.is_optimised
                and context.hpg(f, "freed")
                and context.hpg(f, OPTIMISED_FLAG)
            ]
            most = min(surplus, len(kept), available)
            if kept:
                yield Violation(
                    _place(hstate),
                    "free optimised folios beside surplus",
                    f"node {node} counts {surplus} surplus folios of {hstate.name} "
                    f"and has {len(kept)} free optimised ones: up to {most} could "
                    "not be restored when freed",
                    0,
                    most,
                    {**hexed(hstate_va=hstate.va), "node": node, "pfns": kept[:8]},
                )
