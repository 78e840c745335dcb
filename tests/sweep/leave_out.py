# SPDX-License-Identifier: LGPL-2.1-or-later
"""Leaves pages out of a dump, one at a time, and asks every verb about the rest.

The dump is never copied: an overlay raises the Fault that a dump with a hole raises.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import click

from tests.analysis.check.overlay import Bench, Holes
from tests.commands.asking import ask, text
from tests.sweep.compare import compare
from vmemmap_tools.analysis.runs import Runs
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.model.machine import Machine
from vmemmap_tools.target.base import Target, TargetError
from vmemmap_tools.target.drgn_open import open_dump

__all__ = ["Case", "Sweep"]

UNIFORM = 5
"""Pages of one uniform kind that are left out."""

DENIALS = (
    "no hugetlb pool",
    "no hugetlb folio",
    "no device memory",
    "no device DAX",
    "no section is present",
    "no zone has pages",
    "no vmemmap is mapped",
    "no finding",
    "has no struct page",
    "unmapped hole",
    "has no section",
    "is a single page",
    "do not map it",
)
"""Sentences that deny something: only the whole dump's answer may hold them."""

HEDGE = "cannot be determined"


@dataclass(frozen=True)
class Case:
    """A frame that is left out, and what it holds."""

    machine: str
    pfn: int
    kind: str


class Sweep:
    """One machine, its whole answers, and the answers without some of its pages."""

    def __init__(self, name: str, machine: Machine):
        self.name = name
        self._prepare(machine)
        whole = Kernel(self.target_without(()))
        self.questions = list(_questions(whole))
        self._touched: dict[tuple[str, ...], set[int]] = {}
        self._kinds = _kinds_of_frames(whole)
        self.whole = {words: self._whole(words) for words in self.questions}

    def _prepare(self, machine: Machine) -> None:
        self._bench = Bench(machine)

    def target_without(self, pfns: Collection[int]) -> Any:
        """The dump without these frames; ``touched`` collects the frames that are read.

        Raises `TargetError`.
        """
        return Holes(self._bench.target, pfns)

    def _whole(self, words: tuple[str, ...]) -> tuple[dict[str, Any], str]:
        target = self.target_without(())
        kernel = Kernel(target)
        answers = ask(kernel, *words), text(kernel, *words)
        self._touched[words] = target.touched
        return answers

    def cases(self) -> Iterator[Case]:
        """Every page that is one of its kind, and some of each uniform kind."""
        uniform = defaultdict(list)
        for pfn in sorted(set().union(*self._touched.values())):
            kind = self._kinds.get(pfn)
            if kind is None:
                yield Case(self.name, pfn, "kernel data or page table")
            else:
                uniform[kind].append(pfn)
        draw = random.Random(self.name)
        for kind, pfns in sorted(uniform.items()):
            for pfn in sorted(draw.sample(pfns, min(UNIFORM, len(pfns)))):
                yield Case(self.name, pfn, kind)

    def violations(self, case: Case) -> Iterator[str]:
        """What any verb says of the dump without this page that is not so.

        A verb that does not read the page cannot notice that it is missing.
        """
        for words in self.asked(case):
            for what in self._wrong(words, lambda: self.target_without({case.pfn})):
                yield f"{case.machine}, {case.pfn:#x} ({case.kind}): {what}"

    def violations_of_file(self, label: str, core: Path) -> Iterator[str]:
        """What any verb says of this dump of the same machine that is not so."""
        try:
            target = open_dump(str(core), [str(self._bench.path / "vmlinux")])
        except TargetError:
            return  # one line and status 2
        for words in self.questions:
            for what in self._wrong(words, lambda: target):
                yield f"{self.name}, {label}: {what}"

    @property
    def core(self) -> Path | None:
        """The whole dump, an ELF file with a vmlinux; None without one."""
        return self._bench.path / "vmcore"

    def asked(self, case: Case) -> list[tuple[str, ...]]:
        """The questions whose answer rests on this page."""
        return [w for w in self.questions if case.pfn in self._touched[w]]

    def _wrong(
        self, words: tuple[str, ...], open_target: Callable[[], Target]
    ) -> Iterator[str]:
        whole, whole_text = self.whole[words]
        try:
            kernel = Kernel(open_target())
            answer = ask(kernel, *words)
            shown = text(kernel, *words)
        except (TargetError, click.ClickException):
            return  # one line and status 2
        yield from compare(words[0], whole, answer)
        for denial in DENIALS:
            lines = [line for line in shown.splitlines() if denial in line]
            if denial not in whole_text and any(HEDGE not in line for line in lines):
                yield f"{words}: the table says {lines[0].strip()!r}"


def _kinds_of_frames(kernel: Kernel) -> dict[int, str]:
    """{frame: kind} of the frames that hold struct pages, by what they describe."""
    kinds: dict[int, str] = {}
    vmemmap = kernel.vmemmap
    for run in Runs(kernel).everything():
        owner = f"{run.owner.kind} {run.owner.order}" if run.owner else "no compound"
        for number in range(run.first, run.end):
            frame = vmemmap.frame(number)
            if frame >= 0:
                kinds[frame] = f"struct pages, {run.backing}, {owner}"
    return kinds


def _questions(kernel: Kernel) -> Iterator[tuple[str, ...]]:
    for verb in ("summary", "sections", "zones", "hvo", "dax", "map", "info", "check"):
        yield (verb,)
    yield "hvo", "--folios"
    yield "sections", "--node", "0"
    yield "sections", "--optimised"
    targets = list(dict.fromkeys(_targets(kernel)))
    yield "page", *targets
    yield "walk", next(t for t in targets if t.startswith("0x"))


def _targets(kernel: Kernel) -> Iterator[str]:
    """A page of each kind, by pfn and by the address of its struct page."""
    seen: set[tuple[int, str | None]] = set()
    for folio in kernel.hugetlb.folios():
        if (folio.order, folio.backing.layout) not in seen:
            seen.add((folio.order, folio.backing.layout))
            yield f"pfn:{folio.pfn:#x}"
            yield f"pfn:{folio.pfn + 0x123:#x}"
            yield f"{kernel.pages.va(folio.pfn + 0x1F0):#x}"
            yield f"pfn:{folio.backing.head_frame:#x}"
    for pgmap in kernel.pgmaps:
        for start, end in pgmap.ranges:
            yield f"pfn:{start:#x}"
            yield f"pfn:{end - 0x101:#x}"
            yield f"{kernel.pages.va(end - 1):#x}"
    for section in kernel.sections:
        if not section.is_early or section.nr == 0:
            yield f"pfn:{section.start_pfn + 0x345:#x}"
    for frame in kernel.tail_frames:
        yield f"pfn:{frame:#x}"
    last = max(section.nr for section in kernel.sections)
    yield f"pfn:{(last + 3) * kernel.geometry.pages_per_section:#x}"
    yield f"{kernel.geometry.vmemmap_window[0]:#x}"
