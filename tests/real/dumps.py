# SPDX-License-Identifier: LGPL-2.1-or-later
"""Dumps under test: each opened once, then asked through the verbs themselves."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from click.exceptions import Exit

from vmemmap_tools.commands import VerbGroup
from vmemmap_tools.commands.session import Session
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.target.base import TypeSource
from vmemmap_tools.target.drgn_open import open_dump

from .runs import Run

__all__ = ["FORMS", "VERBS_COMPARED", "Answer", "Asked", "Dump", "DumpFile"]

FORMS = ("elf", "kdump")
"""The forms of dump that every run has and that the tool must read."""

VERBS_COMPARED = (
    ("summary",),
    ("sections",),
    ("zones", "--all"),
    ("map",),
    ("map", "--leaves"),
    ("hvo",),
    ("hvo", "--folios"),
    ("dax",),
)
"""What the forms of one dump are asked, to be compared with each other."""

Answer = Mapping[str, Any]
"""A verb's JSON: schema, kernel, rows, totals, missing."""


class Asked:
    """Whatever answers verbs, each once: a dump, a capsule, a live guest."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, ...], Answer] = {}

    def text(self, form: str, *words: str) -> str:
        """Return what a verb prints in *form* ("table", "csv" or "json")."""
        raise NotImplementedError

    def ask(self, *words: str) -> Answer:
        """Return the JSON of a verb with its options; asked once, then kept."""
        if words not in self._answers:
            self._answers[words] = json.loads(self.text("json", *words))
        return self._answers[words]

    def rows(self, *words: str) -> list[dict[str, Any]]:
        """Return the rows of a verb's JSON."""
        rows: list[dict[str, Any]] = self.ask(*words)["rows"]
        return rows

    def totals(self, *words: str) -> dict[str, Any]:
        """Return the totals of a verb's JSON."""
        totals: dict[str, Any] = self.ask(*words)["totals"]
        return totals


class DumpFile(Asked):
    """A dump file with its kernel's vmlinux, or with types of another origin."""

    def __init__(
        self, path: Path, types: TypeSource = "auto", vmlinux: Path | None = None
    ) -> None:
        super().__init__()
        self.path = path
        self._types = types
        self._symbols = [] if vmlinux is None else [str(vmlinux)]

    @cached_property
    def kernel(self) -> Kernel:
        """The dump, opened when first asked for."""
        return Kernel(open_dump(str(self.path), self._symbols, types=self._types))

    def text(self, form: str, *words: str) -> str:
        return self.print_of(words, self.kernel, form)

    def text_anew(self, form: str, *words: str) -> str:
        """Return what a verb prints that finds nothing read before it."""
        return self.print_of(words, self.kernel.fresh(), form)

    def ask_anew(self, *words: str) -> Answer:
        """Return the JSON of a verb that finds nothing read, nor missing, before it."""
        answer: Answer = json.loads(self.print_of(words, self.kernel.fresh(), "json"))
        return answer

    @staticmethod
    def print_of(words: tuple[str, ...], kernel: Kernel, form: str = "json") -> str:
        """Return what a verb prints of any kernel."""
        out = io.StringIO()
        session = Session(lambda: kernel, format=form, stream=out)
        group = VerbGroup("vmemmap")
        asked = group.make_context("vmemmap", list(words), obj=session)
        # `check` says by its status that it found errors.
        with suppress(Exit), asked as context:
            group.invoke(context)
        return out.getvalue()


class Dump(DumpFile):
    """One dump file of a run, with the vmlinux of its kernel."""

    def __init__(self, run: Run, form: str, path: Path) -> None:
        super().__init__(path, vmlinux=run.vmlinux)
        self.run = run
        self.form = form
