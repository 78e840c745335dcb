# SPDX-License-Identifier: LGPL-2.1-or-later
"""The generations of vmemmap optimisation as a table: every difference is decided here.

What types tell (member names, array lengths, enumerators) is not repeated here: the
layouts hold it, with each generation's release. This table holds what kernels *do*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

__all__ = ["GENERATIONS", "Generation", "generation"]


@dataclass(frozen=True)
class Generation:
    """How one kernel lays out, optimises, restores and counts its vmemmap."""

    name: str
    """Name of the layout, and what a spec writes."""
    letter: str
    """The generation's name in the project's notes (G1 ... G6)."""

    kept: int
    """Private vmemmap pages of an optimised hugetlb folio."""
    tail: str
    """What tails map to: "kept" (the last private page) or "zone" (shared tail)."""
    new_head: bool
    """Optimising copies the head page into a newly allocated frame."""
    splits: bool
    """PMD leaves are split on demand; if not, HVO boots with base pages only."""
    preinit: bool
    """Gigantic boot pages are populated in optimised form (pre-HVO)."""
    preinit_flag: bool
    """...and their sections keep SECTION_IS_VMEMMAP_PREINIT."""
    fake_heads: bool
    """Tails alias the head's frame, so every spp-th struct page looks like a head."""

    mask: bool
    """Compound pages are encoded as masks instead of head pointers."""
    pte_flags: str
    """Key into ArchModel.pte_flags."""

    dax: str
    """Device DAX layout of compounds: D0, D1 or D2."""
    dax_tails_writable: bool
    dax_tail_pageref: bool
    """The shared DAX tail takes one reference per PTE (D2 only)."""
    fsdax_refcount: int
    """Reference count of an idle fsdax page."""

    counters: bool
    """nr_memmap_pages and nr_memmap_boot_pages exist."""
    static_key: str | None
    """The key symbol, with its value's meaning in static_key_counts."""
    static_key_counts: str
    """"folios": counts optimised folios; "mode": 1 while the policy is on."""
    policy: str | None
    """A bool with the current policy."""
    self_hosted_test: bool
    """HVO refuses folios with a self-hosted vmemmap by a test per page."""
    boot_tail_refcount: bool
    """memmap_init leaves refcount 1 in a boot-time shared tail of a zone's first
    section (kernel-reference 8.6b); shown only when a machine asks for defects."""


_G1 = Generation(
    name="5.14",
    letter="G1",
    kept=2,
    tail="kept",
    new_head=False,
    splits=False,
    preinit=False,
    preinit_flag=False,
    fake_heads=False,
    mask=False,
    pte_flags="dirty-kept",
    dax="D0",
    dax_tails_writable=True,
    dax_tail_pageref=False,
    fsdax_refcount=1,
    counters=False,
    static_key=None,
    static_key_counts="",
    policy="hugetlb_free_vmemmap_enabled",
    self_hosted_test=False,
    boot_tail_refcount=False,
)
_G2_518 = replace(
    _G1,
    name="5.18",
    letter="G2",
    kept=1,
    splits=True,
    fake_heads=True,
    static_key="hugetlb_free_vmemmap_enabled_key",
    static_key_counts="mode",
    policy=None,
)
_G2 = replace(
    _G2_518,
    name="6.1",
    dax="D1",
    static_key="hugetlb_optimize_vmemmap_key",
    static_key_counts="folios",
    policy="vmemmap_optimize_enabled",
    self_hosted_test=True,
)
_G3 = replace(
    _G2,
    name="6.12",
    letter="G3",
    new_head=True,
    pte_flags="dirty-saved",
    counters=True,
)
_G4_72 = replace(
    _G3,
    name="7.2",
    letter="G4",
    tail="zone",
    preinit=True,
    preinit_flag=True,
    fake_heads=False,
    mask=True,
    fsdax_refcount=0,
    static_key=None,
    static_key_counts="",
    boot_tail_refcount=True,
)
_G4 = replace(
    _G4_72,
    name="7.3",
)
_G5A = replace(
    _G4,
    name="section-order",
    letter="G5a",
    preinit_flag=False,
    boot_tail_refcount=False,
)
_G5B = replace(
    _G5A,
    name="section-dax",
    letter="G5b",
    dax="D2",
    dax_tail_pageref=True,
)
_G5A_32 = replace(_G5A, name="section-order-32")
_G5A_48 = replace(_G5A, name="section-order-48")
_G6 = replace(
    _G5B,
    name="seed",
    letter="G6",
    dax_tails_writable=False,
    dax_tail_pageref=False,
)
_G6_INDEX = replace(_G6, name="seed-zone-index")

_ALL = (
    _G1,
    _G2_518,
    _G2,
    _G3,
    _G4_72,
    _G4,
    _G5A,
    _G5A_32,
    _G5A_48,
    _G5B,
    _G6,
    _G6_INDEX,
)
GENERATIONS: Mapping[str, Generation] = {g.name: g for g in _ALL}


def generation(name: str) -> Generation:
    """Return the generation called ``name``; ValueError with the choices otherwise."""
    if name not in GENERATIONS:
        known = ", ".join(GENERATIONS)
        raise ValueError(f"no generation {name!r}; the model knows {known}")
    return GENERATIONS[name]
