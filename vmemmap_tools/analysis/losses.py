# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is not known about a kernel, and what that costs: in words and as fields."""

from __future__ import annotations

from ..kernel.features import ANY_VARIABLE
from ..kernel.kernel import Kernel
from ..target.base import TargetError
from .hvo import pools_by_node

__all__ = ["lost", "lost_fields", "refuse_lost", "warning"]

LOSSES = (
    ("memory_blocks", "memory blocks of sections are not shown"),
    ("pgmap_array", "device memory (dev_pagemap) cannot be found"),
    ("hstates", "hugetlb pools and folios cannot be found"),
    ("node_data", "nodes and zones cannot be found, unless there is one node only"),
)
"""Variables of kernels that have memory blocks, ZONE_DEVICE, hugetlb, several nodes."""
OF_EVERY_KERNEL = "node_states"
"""A variable of mm/ that no configuration leaves out, and that the views read."""

WITHOUT_TYPES = (
    "zones: names, spans, shared tail pages; the zone of sections, folios and pages",
    "device memory: page maps, compounds, altmaps, and what they save; in map its "
    "vmemmap has no owner, and shared parts of it are called shared",
    "hugetlb pools: their counts, and pools without pages; flags of folios (freed, "
    "vmemmap_optimized)",
    "sections: order, zone field, subsections, memory block",
    "struct pages: names of flags, and of the types that VMCOREINFO does not export",
    "which vmemmap is hosted by hot-added memory, unless all sections are early",
    "features that only types tell of",
    "check: every rule",
)
WITHOUT_SYMBOLS = (
    "counters of the memmap, the policy for new folios",
    "sections that device memory shares (letters D and V): their bits have no names",
)
OF_EVERY_VERB = ("kernel.features",)
LOST_FIELDS = {
    "summary": (
        "rows.zone",
        "totals.chosen",
        "totals.saved_dax_bytes",
        "totals.saved_other_bytes",
        "totals.altmap_frames",
        "totals.net_ram_bytes",
        "totals.savable_dax_bytes",
    ),
    "info": ("rows.value", "totals"),
    "sections": (
        "rows.zone",
        "rows.order",
        "rows.section_zone",
        "rows.subsections_set",
        "rows.memory_block",
    ),
    "zones": ("rows", "totals.shared_tail_pages"),
    "page": (
        "rows.verdict",
        "rows.explanation",
        "rows.section.order",
        "rows.section.memory_block",
        "rows.struct_page.flags",
        "rows.struct_page.zone",
        "rows.struct_page.type",
        "rows.hugetlb.flags",
        "rows.hugetlb.flagged",
        "rows.vmemmap.shared_tail_of.zone",
        "rows.backs.shared_tail_of.zone",
    ),
    "walk": (),
    "map": (),
    "hvo": (
        "rows.total",
        "rows.free",
        "rows.reserved",
        "rows.surplus",
        "rows.overcommit",
        "rows.flagged",
        "rows.zone",
        "rows.flags",
    ),
    "dax": ("rows", "totals"),
    "check": ("rows", "totals"),
}
"""Fields of each verb's JSON that are null or absent without types."""
IF_DEVICES = {
    "summary": ("totals.shared_tail_bytes",),
    "page": ("rows.dax", "rows.vmemmap.owner", "rows.vmemmap.index_in_folio"),
    "map": ("rows.owner", "rows.backing"),
}
"""Those that are, besides, where there may be device memory."""
IF_HOSTING_IS_UNKNOWN = {
    "summary": ("totals.selfhosted_frames",),
    "sections": ("rows.self_hosted",),
}
"""Where some vmemmap may lie in hot-added memory."""
IF_REASONS_ARE_UNKNOWN = {
    "summary": ("rows.savable_bytes", "totals.savable_hugetlb_bytes"),
    "hvo": ("rows.reason", "rows.reasons", "rows.savable_bytes"),
}
"""Where it is not known why some folio is not optimised."""
IF_ADDED = {"page": ("rows.valid",)}
"""Where sections were added after boot: parts of them may be."""
WITHOUT_VARIABLES = {
    "summary": ("totals.nr_memmap_pages", "totals.nr_memmap_boot_pages"),
    "sections": ("rows.state", "rows.flags"),
    "page": ("rows.section.state", "rows.section.flags"),
    "hvo": ("totals.policy",),
}
"""Without addresses of variables."""


def lost(kernel: Kernel) -> list[str]:
    """Sentences on what this target cannot answer."""
    if not kernel.types_are_known:
        reasons = [f"no types: {cost}" for cost in WITHOUT_TYPES]
        if not _knows_variables(kernel):
            reasons += [f"no symbols: {cost}" for cost in WITHOUT_SYMBOLS]
        return reasons
    if kernel.target.variable(OF_EVERY_KERNEL) is not None:
        return []  # Variables can be found: the kernel has none that is not.
    return [
        f"no variable {name}: {cost}"
        for name, cost in LOSSES
        if kernel.target.variable(name) is None
    ]


def lost_fields(kernel: Kernel) -> dict[str, list[str]]:
    """{verb: fields of its JSON} that are null, or left out, for want of types.

    All others are what they would be with types. An answer without such a field is
    null where that means "none", and never 0.
    """
    if kernel.types_are_known:
        return {}
    conditions = (
        (True, LOST_FIELDS),
        (_may_have_devices(kernel), IF_DEVICES),
        (not _hosting_is_known(kernel), IF_HOSTING_IS_UNKNOWN),
        (not _reasons_are_known(kernel), IF_REASONS_ARE_UNKNOWN),
        (not all(s.is_early for s in kernel.sections), IF_ADDED),
        (not _knows_variables(kernel), WITHOUT_VARIABLES),
    )
    fields = {verb: list(OF_EVERY_VERB) for verb in LOST_FIELDS}
    for is_met, lost_then in conditions:
        if is_met:
            for verb, names in lost_then.items():
                fields[verb] += names
    return fields


def refuse_lost(kernel: Kernel, verb: str, **options: object) -> None:
    """Refuse to choose rows by a field that is lost: none would be left.

    ``options`` are those of the verb that were given, by the field they choose by.
    Raises `TargetError`.
    """
    given = [name for name, value in options.items() if value is not None]
    lost_here = lost_fields(kernel).get(verb, ()) if given else ()
    for name in given:
        if f"rows.{name}" in lost_here:
            raise TargetError(
                f"--{name} needs the kernel's types, which VMCOREINFO alone does not "
                "have: leave it out, or give a vmlinux or BTF with -s"
            )


def _knows_variables(kernel: Kernel) -> bool:
    return kernel.target.symbol(ANY_VARIABLE) is not None


def _may_have_devices(kernel: Kernel) -> bool:
    """Device memory is added after boot, or marks the early section it lies in."""
    flags = kernel.sections.flags
    known = 1 << (flags.is_early + 1)
    unnamed = (1 << flags.last_bit) - known
    return any(not s.is_early or s.word & unnamed for s in kernel.sections)


def _hosting_is_known(kernel: Kernel) -> bool:
    hosting = kernel.self_hosting
    return all(hosting.is_self_hosted(s) is not None for s in kernel.sections)


def _reasons_are_known(kernel: Kernel) -> bool:
    if kernel.is_untold("hugetlb-hvo"):
        return False
    if _hosting_is_known(kernel):
        return True
    return not any("unknown" in pool.reasons for pool in pools_by_node(kernel))


def warning(kernel: Kernel) -> list[str]:
    """A sentence for answers that would say more if types were known."""
    if kernel.types_are_known:
        return []
    return [
        "types are unknown but for VMCOREINFO: 'vmemmap info' says what is not answered"
    ]
