# SPDX-License-Identifier: LGPL-2.1-or-later
"""Capsules whose description lies under a right checksum: answered or refused.

A checksum finds accidents. Whoever writes a capsule by hand may say anything in it.
"""

from __future__ import annotations

import copy
from pathlib import Path
from random import Random

import click
import pytest

from tests.commands.asking import ask
from tests.fuzz.damage import lie
from tests.target.gdb.cores import small_machine
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.target.base import TargetError
from vmemmap_tools.target.composed import ComposedTarget
from vmemmap_tools.target.drgn_open import open_dump
from vmemmap_tools.target.recorded import CapsuleNote, RecordedSymbols, RecordedTypes

from .made import make_capsule

VERBS = ("summary", "sections", "zones", "hvo", "dax", "map", "info")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> ComposedTarget:
    directory = tmp_path_factory.mktemp("lies")
    small_machine("four-level").write(directory)
    make_capsule(directory)
    found = open_dump(str(directory / "capsule"))
    assert isinstance(found, ComposedTarget)
    return found


@pytest.mark.parametrize("seed", range(80))
def test_a_capsule_that_lies_is_answered_or_refused(
    target: ComposedTarget, seed: int
) -> None:
    draw = Random(f"lie {seed}")
    known: CapsuleNote = target.memory.capsule  # type: ignore[attr-defined]
    note = copy.copy(known)
    parts = sorted(p for p, found in known.answers.items() if found)
    part = draw.choice(parts)
    name = draw.choice(sorted(known.answers[part]))
    said = {**known.answers[part], name: lie(draw, known.answers[part][name])}
    note.answers = {**known.answers, part: said}
    try:
        note = CapsuleNote.unpack(note.pack())
        lying = ComposedTarget(
            target.memory, RecordedTypes(note), RecordedSymbols(note), target.release
        )
        for verb in VERBS:
            ask(Kernel(lying), verb)
    except (TargetError, click.ClickException) as refused:
        assert len(str(refused).splitlines()) == 1


def test_the_truth_is_answered(target: ComposedTarget, tmp_path: Path) -> None:
    assert ask(Kernel(target), "hvo")["totals"]["folios"] == 8
