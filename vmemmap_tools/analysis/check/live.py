# SPDX-License-Identifier: LGPL-2.1-or-later
"""A running kernel changes between two reads: findings have to show again.

Page tables and struct pages are read at different times, and the kernel rewrites both
step by step (hot add, optimisation, restore). So a finding counts only if further
readings show it unaltered, and if the place it speaks of stood still around each of
them: what holds between two equal looks at a place is no step of such an operation.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ...kernel.kernel import Kernel
from ...kernel.pulse import pulse
from ...kernel.table_frames import for_each_table_frame
from ...kernel.zones import Zone
from ...target.base import Fault, TargetError
from .context import Context, Progress
from .findings import Finding, Place, Violation
from .registry import Rule

__all__ = ["ATTEMPTS", "PAUSES", "SIFTINGS", "Confirmation", "confirm"]

SIFTINGS = 2
"""Readings of all rules together, which leave little for the careful ones."""

PAUSES = (0.0, 0.05, 0.2, 0.8)
"""Seconds before each careful reading: longer and longer, as no loop repeats itself."""

ATTEMPTS = 3
"""Careful readings of a rule, one after the other, while they fail."""

FOLIO_PAGES = 8
"""Vmemmap pages from a folio's first that have to stand still: a 2 MiB page's all."""


@dataclass
class Confirmation:
    """What further readings make of the findings of racy rules, by rule."""

    kept: dict[str, list[Finding]]
    """Those that every further reading shows."""
    dismissed: dict[str, int]
    """How many are gone in a later reading."""
    failed: dict[str, tuple[int, str]]
    """How many could not be looked for again, and why: neither kept nor dismissed."""


def confirm(
    kernel: Kernel,
    rules: Sequence[Rule],
    found: Mapping[str, Sequence[Finding]],
    progress: Progress,
) -> Confirmation:
    """Read again, and compare."""
    result = Confirmation({rule.id: list(found[rule.id]) for rule in rules}, {}, {})
    kept = result.kept
    for _ in range(SIFTINGS):
        _sift(kernel, rules, kept, progress)
    for pause in PAUSES:
        # What is only worth knowing has shown in every sifting, which is enough.
        pending = [r for r in rules if any(f.severity != "I" for f in kept[r.id])]
        if pending:
            time.sleep(pause)
            _look_closely(kernel, pending, result, progress)
    for rule in rules:
        lost, _ = result.failed.get(rule.id, (0, ""))
        result.dismissed[rule.id] = len(found[rule.id]) - len(kept[rule.id]) - lost
    return result


def _sift(
    kernel: Kernel,
    rules: Sequence[Rule],
    kept: dict[str, list[Finding]],
    progress: Progress,
) -> None:
    """Drop what one fresh reading, for all rules, does not show as it was.

    A reading that fails says nothing: the careful ones decide.
    """
    pending = [rule for rule in rules if kept[rule.id]]
    if not pending:
        return
    with suppress(Fault, TargetError):
        context = Context(kernel.fresh(), progress)
        for rule in pending:
            with suppress(Fault, TargetError):
                again = _violations(context, rule)
                kept[rule.id] = [f for f in kept[rule.id] if _identity(f) in again]


def _look_closely(
    kernel: Kernel, rules: Sequence[Rule], result: Confirmation, progress: Progress
) -> None:
    """Drop what fresh readings do not show as it was, in places that stood still.

    A reading for each rule, so that little time passes between its two ends; the look
    behind one is the look before the next. Memory that goes away at the wrong moment
    makes a reading fail: it is repeated, for this rule alone.
    """
    before: _Look | None = None
    for rule in rules:
        for _ in range(ATTEMPTS):
            try:
                before = before or _Look(kernel.fresh())
                again = _violations(Context(before.kernel, progress), rule)
                after = _Look(kernel.fresh())
            except (Fault, TargetError) as error:
                before, why = None, str(error)
                continue
            result.kept[rule.id] = [
                f
                for f in result.kept[rule.id]
                if _identity(f) in again and before.of(f.where) == after.of(f.where)
            ]
            before = after
            break
        else:
            result.failed[rule.id] = len(result.kept[rule.id]), why
            result.kept[rule.id] = []


def _violations(context: Context, rule: Rule) -> set[Hashable]:
    context.begin()
    if rule.applies(context) is not None or rule.hindrance(context) is not None:
        return set()
    return {_identity(violation) for violation in rule.check(context)}


def _identity(finding: Finding | Violation) -> Hashable:
    """What two readings have to agree on; messages have the numbers in them."""
    return finding.cause, finding.where, finding.message


class _Look:
    """What a kernel maps, counts and lists at one time, to be compared by place."""

    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self._pulse = pulse(kernel)
        self._vmemmap = kernel.vmemmap
        self._tables = self._table_frames()

    def of(self, place: Place) -> object:
        """Whatever findings about this place depend on; all there is, if unsure."""
        number = place.id
        if isinstance(number, int):
            if place.kind == "frame":
                mappings = self._vmemmap.frames.mappings(number)
                return mappings, number in self._tables
            if place.kind in ("folio", "pfn"):
                return self._of_pages(number, FOLIO_PAGES)
            if place.kind == "section":
                return self._of_section(number)
            if place.kind == "pgmap":
                return self._of_pgmap(number)
        if place.kind == "zone":
            return [z for z in self.kernel.zones if _is_of_zone(str(number), z)]
        return self._of_everything()

    def _of_pages(self, pfn: int, count: int) -> object:
        first = self.kernel.pages.vmemmap_page(pfn)
        section = self.kernel.sections.of_pfn(pfn)
        return section, self._vmemmap.entries(first, count)

    def _of_section(self, nr: int) -> object:
        geometry = self.kernel.geometry
        pages = geometry.pages_per_section // geometry.struct_pages_per_page
        return self._of_pages(nr * geometry.pages_per_section, pages)

    def _of_pgmap(self, pfn: int) -> object:
        found = [
            p for p in self.kernel.pgmaps if any(a <= pfn < b for a, b in p.ranges)
        ]
        ranges = [r for p in found for r in p.ranges] or [(pfn, pfn + 1)]
        between = self.kernel.sections.between
        return found, [self._of_section(s.nr) for a, b in ranges for s in between(a, b)]

    def _of_everything(self) -> object:
        vmemmap, per_slot = self._vmemmap, self._vmemmap.pages_per_slot
        tables = [hash(tuple(vmemmap.entries(n, per_slot))) for n, _ in vmemmap.slots()]
        return self._pulse, tables

    def _table_frames(self) -> set[int]:
        table = self.kernel.page_table
        window = self.kernel.geometry.vmemmap_window
        return {frame.pfn for frame in for_each_table_frame(table, *window)}


def _is_of_zone(label: str, zone: Zone) -> bool:
    """Whether a place is this zone, or a shared tail page of it."""
    return f"{label} ".startswith(f"node {zone.node} {zone.name} ")
