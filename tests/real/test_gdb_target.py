# SPDX-License-Identifier: LGPL-2.1-or-later
"""gdb on dumps of real kernels: the JSON of the command line, the guest's truth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gdb_door.runner import VERSIONS, Answer, Gdb, find_gdb
from tests.target.gdb.cores import without_sources

from .compare import Compare
from .damage import as_proc_vmcore, filtered
from .dumps import Dump
from .runs import Run
from .truth import Truth
from .walk import QemuWalk

VERBS = ("info", "walk vmemmap_base", "page {page}", "hvo --folios", "check --quick")
VARIANTS = pytest.mark.variants("kaslr", "la57")


@pytest.fixture(scope="module")
def vmcore(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The dump with headers as /proc/vmcore has them."""
    path = tmp_path_factory.mktemp("gdb") / "vmcore"
    yield as_proc_vmcore(run, path)
    path.unlink()


def ask(gdb: Gdb, run: Run, core: Path, verbs: list[str], types: str) -> list[Answer]:
    """The JSON of verbs in gdb; the first answer is gdb's own `print vmemmap_base`."""
    answers = gdb.run(
        f"file {run.vmlinux}",
        f"core-file {core}",
        "output/x (unsigned long)vmemmap_base",
        "python from tests.gdb_door import inside",
        f"python inferior = inside.Inferior(types={types!r})",
        *(f"python inferior.ask({verb!r})" for verb in verbs),
    )
    assert answers[4].error is None, answers[4].error
    return [answers[2], *answers[5:]]


def compare_all(
    compare: Compare, title: str, verbs: list[str], answers: list[Answer], judge: Dump
) -> None:
    for verb, answer in zip(verbs, answers):
        assert answer.error is None, f"{verb}: {answer.error}"
        compare.equal(
            f"{title}: {verb} = command line",
            without_sources(json.loads(answer.text)),
            without_sources(judge.ask(*verb.split())),
            f"{len(answer.text)} characters",
        )


def asked(walk: QemuWalk) -> list[str]:
    """The verbs, on the page whose vmemmap is mapped most often and read-only."""
    tail = walk.readonly[0] if walk.readonly else walk.vmemmap[0]
    return [verb.format(page=f"{tail.va:#x}") for verb in VERBS]


@VARIANTS
def test_a_dump_of_qemu_answers_in_gdb(
    run: Run, dumps: dict[str, Dump], walk: QemuWalk, truth: Truth, compare: Compare
) -> None:
    verbs, gdb = asked(walk), find_gdb(VERSIONS[0])
    linked, *answers = ask(gdb, run, run.elf, verbs, "auto")
    compare_all(compare, "gdb", verbs, answers, dumps["elf"])
    walked = json.loads(answers[1].text)["totals"]["pa"]
    judge = walk.translate(truth.kallsyms["vmemmap_base"]).pa
    compare.equal("gdb: walk vmemmap_base = info tlb", walked, judge, f"{judge:#x}")
    # What the core lacks at that address gdb takes from the vmlinux itself.
    own, is_right = int(linked.text, 16), walked == judge
    compare.true(
        "gdb: where it says the value that was linked, we do not",
        own != walk.vmemmap_base and is_right,
        f"gdb says {own:#x}, the kernel {walk.vmemmap_base:#x}",
    )
    base = json.loads(answers[0].text)["kernel"]["vmemmap_va"]
    compare.equal("gdb: info = info tlb: vmemmap", int(base, 16), walk.vmemmap_base)


@VARIANTS
def test_a_dump_with_virtual_addresses_answers_in_gdb_by_its_dwarf(
    run: Run, vmcore: Path, dumps: dict[str, Dump], walk: QemuWalk, compare: Compare
) -> None:
    verbs, gdb = asked(walk), find_gdb(VERSIONS[0])
    _, *answers = ask(gdb, run, vmcore, verbs, "dwarf")
    compare_all(compare, "gdb, as /proc/vmcore, DWARF", verbs, answers, dumps["elf"])


@pytest.mark.variants("kaslr")
def test_a_filtered_dump_answers_in_gdb(
    run: Run, vmcore: Path, walk: QemuWalk, compare: Compare
) -> None:
    path = filtered(vmcore, vmcore.with_name("filtered"), "-E")
    verbs, gdb = asked(walk), find_gdb(VERSIONS[-1])
    _, *answers = ask(gdb, run, path, verbs, "auto")
    judge = Dump(run, "filtered -E", path)
    compare_all(compare, "gdb, makedumpfile -E", verbs, answers, judge)
    path.unlink()
