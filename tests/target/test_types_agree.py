# SPDX-License-Identifier: LGPL-2.1-or-later
"""Types from BTF and VMCOREINFO answer as DWARF does, in every generation."""

from __future__ import annotations

from functools import lru_cache

import pytest

from tests.model.kernels import GENERATIONS, varied
from tests.real.types import VERBS
from tests.sweep.compare import compare

from .machines import Described, answer

PAGES = tuple(f"pfn:{p:#x}" for p in (0, 0x8000, 0x40001, 0x100000, 0x1B0000, 0x300000))
ASKED = [*VERBS, ("page", *PAGES), ("walk", "0xffffea0000000000")]
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
def test_vmcoreinfo_answers_the_same_or_nothing(
    generation: str, has_kallsyms: bool
) -> None:
    machine = described(generation)
    known, bare = machine.kernel(), machine.kernel("vmcoreinfo", has_kallsyms)
    for words in ASKED:
        ours, its = answer(known, *words), answer(bare, *words)
        assert list(compare(words[0], ours, its, "--leaves" in words)) == [], words


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
