# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a target cannot answer, in words: for `info`, refusals and empty answers."""

from __future__ import annotations

from ..kernel.features import ANY_VARIABLE
from ..kernel.kernel import Kernel
from ..target.base import TargetError

__all__ = ["nothing", "refuse_unknown", "unavailable", "unknown_parts", "warning"]

COSTS = {
    "sections": "everything, for nothing leads to the memory map",
    "zones": "names, spans and shared tail pages of zones; the zone of sections, "
    "folios and pages",
    "hstates": "counts of hugetlb pools, pools without pages, flags of folios",
    "device maps": "device memory and what it saves; the owner of its vmemmap",
}
"""Part -> what is not answered while nothing is known of it."""

WITHOUT_TYPES = (
    "order, zone field, subsections and memory block of sections",
    "names of page flags, and of the types that VMCOREINFO does not export",
    "which vmemmap is hosted by hot-added memory, unless all sections are early",
    "features that only types show",
    "check: every rule",
)
WITHOUT_SYMBOLS = (
    "counters of the memmap, the policy for new folios",
    "sections that device memory shares (letters D and V)",
)
OF_EVERY_KERNEL = "node_states"
"""A variable of mm/ that no configuration leaves out: where it is not found, none of
mm/ can be."""

NOTHING_MATCHES = "nothing matches"


def unknown_parts(kernel: Kernel) -> dict[str, str]:
    """{part: reason} of the parts of which nothing is known. Reads no memory."""
    found = {part: kernel.unknown(part) for part in COSTS}
    return {part: why for part, why in found.items() if why is not None}


def unavailable(kernel: Kernel) -> list[str]:
    """Sentences on what this target cannot answer, whatever memory it holds."""
    unknown = unknown_parts(kernel)
    sentences = [f"{why}; not answered: {COSTS[part]}" for part, why in unknown.items()]
    if not kernel.types_are_known:
        sentences += [f"no types; not answered: {cost}" for cost in WITHOUT_TYPES]
        if kernel.target.symbol(ANY_VARIABLE) is None:
            sentences += [f"no symbols; not answered: {c}" for c in WITHOUT_SYMBOLS]
    elif kernel.target.variable(OF_EVERY_KERNEL) is None:
        # Where others are found, a kernel without memory_blocks has none.
        name = "memory_blocks"
        if kernel.target.variable(name) is None:
            sentences.append(f"no variable {name}; not answered: memory blocks")
    return sentences


def refuse_unknown(option: str, value: object, why: str | None) -> None:
    """Refuse an option that chooses rows by what is not known. Raises `TargetError`.

    ``why`` is the reason, None where it is known.
    """
    if value is not None and why is not None:
        raise TargetError(
            f"{option} cannot choose: {why}; leave it out, or give a vmlinux or BTF "
            "with -s"
        )


def nothing(
    kernel: Kernel,
    none: str,
    *parts: str,
    filtered: bool = False,
    undecided: bool = False,
) -> str:
    """What to say of an answer without rows.

    ``none`` denies that there are any; it holds only where these parts are complete.
    ``undecided`` says that the options could not choose among some rows.
    """
    why = kernel.gap(*parts)
    if undecided and why is None:
        why = "what the options choose by is not known of some rows"
    if why is not None:
        return f"cannot be determined: {why}"
    return NOTHING_MATCHES if filtered else none


def warning(kernel: Kernel) -> list[str]:
    """A sentence for answers that would say more if types were known."""
    if kernel.types_are_known:
        return []
    return [
        "types are unknown but for VMCOREINFO: 'vmemmap info' says what is not answered"
    ]
