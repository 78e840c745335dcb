# SPDX-License-Identifier: LGPL-2.1-or-later
"""A capsule of each real dump answers, alone, as the dump does with its vmlinux."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stdout

import pytest

from vmemmap_tools.cli import main
from vmemmap_tools.target.base import TargetError

from .compare import Compare
from .dumps import Dump, DumpFile
from .runs import Run
from .types import FILTERED, VERBS

pytestmark = pytest.mark.rare

LIMIT = 5_000_000
"""Bytes of a capsule of a guest of 8 GiB."""

CHECKS = (("check",), ("check", "--all"), ("check", "--quick"))


@pytest.fixture(scope="module")
def capsule(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DumpFile]:
    """Made from the dump with its own BTF: no vmlinux at all."""
    path = tmp_path_factory.mktemp("capsule") / "core"
    opening = ["-c", str(run.elf), "--types", "btf"]
    with redirect_stdout(io.StringIO()):
        assert main([*opening, "capsule", str(path)]) == 0
    yield DumpFile(path)
    path.unlink()


def test_a_capsule_of_a_guest_is_small(capsule: DumpFile, compare: Compare) -> None:
    size = capsule.path.stat().st_size
    compare.true(f"capsule: under {LIMIT} bytes", size < LIMIT, str(size))


def test_a_capsule_answers_as_its_original(
    dumps: dict[str, Dump], capsule: DumpFile, compare: Compare
) -> None:
    known = dumps["elf"]
    start = int(known.ask("summary")["kernel"]["vmemmap_va"], 16)
    walks = [("walk", hex(start + at)) for at in (0, 1 << 21, 1 << 26, 1 << 38)]
    heads = [f"pfn:{f['pfn']}" for f in known.rows("hvo", "--folios")[::9]]
    devices = [f"pfn:{d['start_pfn']}" for d in known.rows("dax")]
    for words in (*VERBS, *FILTERED, *CHECKS, *walks, ("page", *heads, *devices)):
        ours, its = capsule.ask_anew(*words), known.ask_anew(*words)
        name = " ".join(words[:3])
        compare.true(f"{name}: capsule = dump", ours == its, f"{len(its['rows'])} rows")
    answer = capsule.ask_anew("walk", "mem_section")
    compare.true("walk mem_section: answered", bool(answer["kernel"]), "")
    for words in (("walk", "_text"), ("page", "va:_text")):
        with pytest.raises(TargetError) as refused:
            capsule.ask(*words)
        said = str(refused.value)
        compare.true(f"{words}: refused", "does not say about _text" in said, said)
