# SPDX-License-Identifier: LGPL-2.1-or-later
"""Optimise and restore the vmemmap of hugetlb folios, as each generation does it.

Mirrors mm/hugetlb_vmemmap.c: ``hugetlb_vmemmap_optimize_folios`` and
``hugetlb_vmemmap_restore_folio``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from vmemmap_tools.model.core import Core, OutOfMemory
from vmemmap_tools.model.vmemmap import (
    Array,
    Backing,
    Progression,
    frame_runs,
    progressions,
)

__all__ = ["is_optimisable", "optimise", "restore"]


def is_optimisable(core: Core, order: int) -> bool:
    """Whether folios of ``order`` have vmemmap pages to save."""
    return core.vmemmap.pages_per(order) > core.generation.kept


def _expand(runs: list[tuple[int, int]]) -> Array:
    return np.concatenate([np.arange(s, s + n) for s, n in runs])


def optimise(core: Core, pfn: int, count: int, order: int) -> bool:
    """Optimise ``count`` neighbouring folios of one zone from head ``pfn`` on.

    Returns False, and leaves the folios as they are, when their vmemmap is self-hosted
    or memory is short.
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
    # What was made before memory ran out stays: the next folio will want it.
    try:
        if generation.tail == "zone":
            shared = core.shared_tail((state.node, state.zone, order)).frame
        core.ensure_tables(start, end, state.node)
        new_heads = core.take_frames(state.node, count) if generation.new_head else []
    except OutOfMemory:
        return False
    old, _ = vmemmap.frames(start, end)
    kept = old.reshape(count, pages)[:, : generation.kept]
    if generation.new_head:
        kept = _expand(new_heads).reshape(count, 1)
        core.nr_memmap += count
        freed = vmemmap.private_frames(start, end)
    else:
        freed = frame_runs(old.reshape(count, pages)[:, generation.kept :].ravel())
    for p, gap in _patterns(kept):
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
                gap=gap,
                shared=shared,
                order=order,
            ),
        )
    core.free_vmemmap(freed)
    return True


def _patterns(kept: Array) -> Iterator[tuple[Progression, int]]:
    """Cut rows of kept frames into patterns: (progression of the first ones, gap).

    Rows hold one frame or two. After a restore those two may lie anywhere; such folios
    are patterns of their own.
    """
    gaps = kept[:, -1] - kept[:, 0] if kept.shape[1] > 1 else np.ones(len(kept))
    apart = np.nonzero(gaps != 1)[0].tolist()
    at = 0
    for row in [*apart, len(kept)]:
        for p in progressions(kept[at:row, 0]):
            yield replace(p, index=at + p.index), 1
        if row < len(kept):
            yield Progression(row, int(kept[row, 0]), 1, 1), int(gaps[row])
        at = row + 1


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
    frames, _ = backing.frames(np.arange(start, start + kept))
    runs = core.take_frames(state.node, end - start - kept)
    core.nr_memmap += end - start - kept
    vmemmap.map_linear(start, [(int(f), 1) for f in frames], "restored")
    vmemmap.map_linear(start + kept, runs, "restored")
