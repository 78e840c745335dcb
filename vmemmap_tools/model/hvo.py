# SPDX-License-Identifier: LGPL-2.1-or-later
"""Optimise and restore the vmemmap of hugetlb folios, as each generation does it.

Mirrors mm/hugetlb_vmemmap.c: ``hugetlb_vmemmap_optimize_folios`` and
``hugetlb_vmemmap_restore_folio``.
"""

from __future__ import annotations

import numpy as np

from vmemmap_tools.model.core import Core
from vmemmap_tools.model.vmemmap import Array, Backing, frame_runs, progressions

__all__ = ["is_optimisable", "optimise", "restore"]


def is_optimisable(core: Core, order: int) -> bool:
    """Whether folios of ``order`` have vmemmap pages to save."""
    return core.vmemmap.pages_per(order) > core.generation.kept


def _expand(runs: list[tuple[int, int]]) -> Array:
    return np.concatenate([np.arange(s, s + n) for s, n in runs])


def optimise(core: Core, pfn: int, count: int, order: int) -> bool:
    """Optimise ``count`` neighbouring folios of one zone from head ``pfn`` on.

    Returns False, and changes nothing, when their vmemmap is self-hosted.
    """
    generation, vmemmap = core.generation, core.vmemmap
    pages = vmemmap.pages_per(order)
    start = vmemmap.page_of(pfn)
    end = start + count * pages
    if core.is_self_hosted(start, end):
        return False
    state = core.frames.states.get(pfn)
    assert state is not None
    shared = -1
    if generation.tail == "zone":
        shared = core.shared_tail((state.node, state.zone, order)).frame
    old, _ = vmemmap.frames(start, end)
    kept = old.reshape(count, pages)[:, : generation.kept]
    if generation.new_head:
        heads = _expand(core.take_frames(state.node, count))
        core.nr_memmap += count
        freed = vmemmap.private_frames(start, end)
    else:
        heads = kept[:, 0]
        if generation.kept > 1 and not bool((kept[:, 1] == heads + 1).all()):
            raise AssertionError("the two kept frames of a folio are not neighbours")
        freed = frame_runs(old.reshape(count, pages)[:, generation.kept :].ravel())
    core.ensure_tables(start, end, state.node)
    for p in progressions(heads):
        first = start + p.index * pages
        vmemmap.map(
            first,
            first + p.count * pages,
            Backing(
                "hvo",
                first,
                p.first,
                period=pages,
                kept=generation.kept,
                stride=p.step,
                shared=shared,
                order=order,
            ),
        )
    core.free_vmemmap(freed)
    return True


def restore(core: Core, pfn: int, order: int) -> None:
    """Give every vmemmap page of one optimised folio a frame of its own again."""
    vmemmap, kept = core.vmemmap, core.generation.kept
    start = vmemmap.page_of(pfn)
    end = start + vmemmap.pages_per(order)
    state = core.frames.states.get(pfn)
    assert state is not None
    backing = vmemmap.ledger.get(start)
    if backing is None or not backing.is_shared:
        raise ValueError(f"the folio at pfn {pfn:#x} is not optimised")
    heads, _ = backing.frames(np.arange(start, start + kept))
    runs = core.take_frames(state.node, end - start - kept)
    core.nr_memmap += end - start - kept
    vmemmap.map_linear(start, [(int(heads[0]), kept)], "restored")
    vmemmap.map_linear(start + kept, runs, "restored")
