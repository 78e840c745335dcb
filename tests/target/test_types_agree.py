# SPDX-License-Identifier: LGPL-2.1-or-later
"""Types from BTF and VMCOREINFO answer as DWARF does, in every generation."""

from __future__ import annotations

from functools import lru_cache

import pytest

from tests.model.kernels import GENERATIONS, varied
from tests.real.types import VERBS, false_answers, false_losses, reduced

from .machines import Described, answer

PAGES = tuple(f"pfn:{p:#x}" for p in (0, 0x8000, 0x40001, 0x100000, 0x1B0000, 0x300000))
ASKED = [*VERBS, ("page", *PAGES), ("walk", "0xffffea0000000000")]
BEFORE_DEVICES = ("5.14", "5.18")
"""Kernels without compound device memory, which cannot be told from others with it."""
NEVER_MODELLED = {"page: rows.struct_page.type"}
"""A page of a type that VMCOREINFO does not export."""
each_generation = pytest.mark.parametrize("generation", GENERATIONS)


@lru_cache(maxsize=1)
def described(generation: str) -> Described:
    return Described(varied(generation))


@each_generation
def test_btf_and_kallsyms_answer_as_the_vmlinux(generation: str) -> None:
    machine = described(generation)
    known, btf = machine.kernel(), machine.kernel("btf")
    for words in [*ASKED, ("check",)]:
        assert answer(btf, *words) == answer(known, *words), words


@each_generation
@pytest.mark.parametrize("has_kallsyms", [True, False])
def test_vmcoreinfo_answers_the_same_or_declares_it_lost(
    generation: str, has_kallsyms: bool
) -> None:
    machine = described(generation)
    known, bare = machine.kernel(), machine.kernel("vmcoreinfo", has_kallsyms)
    lost = answer(bare, "info")["totals"]["lost_fields"]
    answers = []
    for words in ASKED:
        verb, fields = words[0], lost.get(words[0], ())
        ours, its = answer(known, *words), answer(bare, *words)
        if words != ("map",):  # runs of devices merge with their neighbours
            assert reduced(verb, its, fields) == reduced(verb, ours, fields), words
        assert false_answers(verb, ours, its, fields) == [], words
        answers.append((verb, ours, its))
    if generation not in BEFORE_DEVICES:
        assert set(false_losses(lost, answers)) <= NEVER_MODELLED


@each_generation
@pytest.mark.parametrize("has_kallsyms", [True, False])
def test_a_feature_that_is_told_is_told_right(
    generation: str, has_kallsyms: bool
) -> None:
    machine = described(generation)
    known, bare = machine.kernel(), machine.kernel("vmcoreinfo", has_kallsyms)
    told = {f.name: f.present for f in bare.features if f.present is not None}
    assert "compound-mask" in told
    assert told == {f.name: f.present for f in known.features if f.name in told}
