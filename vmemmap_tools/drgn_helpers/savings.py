# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Savings
-------

What sharing saves in the whole vmemmap, by whom, and what could be saved on top.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from drgn import FaultError, Program
from drgn.helpers.common.prog import takes_program_or_default

from ..analysis.summary import Summary
from .reading import reading_of

__all__ = [
    "CompoundSavings",
    "VmemmapSavings",
    "for_each_vmemmap_saving",
    "vmemmap_savings",
]


class VmemmapSavings(NamedTuple):
    """Totals of a kernel's vmemmap, in bytes; ``None`` for what is not known."""

    mapped: int | None
    """Vmemmap that is mapped."""
    backing: int | None
    """Distinct frames behind it."""
    saved: int | None
    """The difference."""
    saved_hugetlb: int | None
    """Saved by HugeTLB folios (HVO)."""
    saved_dax: int | None
    """Saved by device DAX."""
    shared_tails: int | None
    """Cost of the zones' shared tail pages, to be taken from the two before."""
    savable_hugetlb: int | None
    """What HugeTLB folios that are not optimised would save."""
    savable_dax: int | None


class CompoundSavings(NamedTuple):
    """What the compound pages of one kind and order in one zone save."""

    node: int | None
    zone: str | None
    kind: str
    """``"hugetlb"`` or ``"dax"``."""
    order: int
    compounds: int
    optimized: int
    saved_bytes: int
    savable_bytes: int


@takes_program_or_default
def vmemmap_savings(prog: Program) -> VmemmapSavings:
    """
    Get what is saved in the vmemmap.

    >>> savings = vmemmap_savings()
    >>> savings.saved == savings.mapped - savings.backing
    True
    >>> savings.saved_hugetlb >> 20, savings.saved_dax >> 20
    (16, 35)

    What cannot be read leaves those totals ``None`` that it could change.

    :return: Totals of the whole kernel
    """
    kernel = reading_of(prog)
    totals = Summary(kernel).totals()
    frames = totals["backing_frames"]
    return VmemmapSavings(
        mapped=totals["mapped_bytes"],
        backing=None if frames is None else frames * kernel.geometry.page_size,
        saved=totals["saved_bytes"],
        saved_hugetlb=totals["saved_hugetlb_bytes"],
        saved_dax=totals["saved_dax_bytes"],
        shared_tails=totals["shared_tail_bytes"],
        savable_hugetlb=totals["savable_hugetlb_bytes"],
        savable_dax=totals["savable_dax_bytes"],
    )


@takes_program_or_default
def for_each_vmemmap_saving(prog: Program) -> Iterator[CompoundSavings]:
    """
    Iterate over what is saved by node, zone, kind and order of compound pages.

    >>> for row in for_each_vmemmap_saving():
    ...     if row.kind == "hugetlb":
    ...         print(row.node, row.zone, row.order, row.optimized, row.saved_bytes)
    0 Normal 9 20 573440
    0 Normal 18 1 16773120

    :return: Iterator of rows
    :raises FaultError: behind the rows that are known, if there are others
    """
    kernel = reading_of(prog)
    summary, is_whole = Summary(kernel), True
    for group in summary.groups:
        count, optimized = group.count, group.optimised
        saved, savable = group.saved_bytes, group.savable_bytes
        if count is None or optimized is None or saved is None or savable is None:
            is_whole = False
        else:
            place = group.node, group.zone, group.kind, group.order
            yield CompoundSavings(*place, count, optimized, saved, savable)
    why = kernel.gap("folios", "device maps")
    if why is not None or not is_whole:
        raise FaultError(why or "what backs some compound pages could not be read", 0)
