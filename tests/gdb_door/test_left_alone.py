# SPDX-License-Identifier: LGPL-2.1-or-later
"""Old bugs of commands and architectures that are not ours: what is done instead.

B14 to B16 are in commands whose names are never taken; the same question asked of what
is here has the right answer. B17 is in code for arm64, which is refused by its name.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from tests.model.walk import walk
from tests.target.gdb.cores import Modelled, small_machine
from tests.target.gdb.machines import Stopped
from vmemmap_tools.formats.elf import EM_AARCH64
from vmemmap_tools.model import spec
from vmemmap_tools.model.write import write_vmcore

from .door import LOADER, Small, opening
from .runner import Gdb
from .stub import Stub

THEIRS = (
    "translate-vm",
    "lx-dump-page-owner",
    "lx-slabinfo",
    "lx-slabtrace",
    "lx-vmallocinfo",
    "lx-stack_depot_lookup",
    "lx-kasan_mem_to_shadow",
)
"""Of the kernel's scripts, and left to them."""
PFN = 0x10000


def of_another_architecture(path: Path, to: Path) -> Path:
    """A copy of an ELF file whose header names arm64."""
    data = bytearray(path.read_bytes())
    struct.pack_into("<H", data, 18, EM_AARCH64)
    to.write_bytes(data)
    return to


@pytest.fixture(scope="module")
def arm64(small: Small, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Commands that open a dump of arm64 with the door loaded."""
    directory = tmp_path_factory.mktemp("arm64")
    core = of_another_architecture(small.core, directory / "vmcore")
    vmlinux = of_another_architecture(small.vmlinux, directory / "vmlinux")
    return opening(core, vmlinux)


def test_b14_a_walk_of_another_architecture_says_so(gdb: Gdb, arm64: list[str]) -> None:
    answer = gdb.run(*arm64, "vmemmap walk linux_banner")[-1]
    assert answer.error == (
        "vmemmap: architecture aarch64 is not supported (supported: x86_64)"
    )


def test_b17_nothing_of_arm64_is_guessed(any_gdb: Gdb, arm64: list[str]) -> None:
    questions = (
        "lx-pfn_to_page 1",
        "lx-virt_to_phys ffff800000000000",
        "output $lx_pfn_to_page(1)",
        "python from vmemmap_tools.gdb_door.mm import page_ops; page_ops()",
    )
    for answer in any_gdb.run(*arm64, *questions)[len(arm64) :]:
        assert "architecture aarch64 is not supported" in str(answer.error)


def test_b17_nor_behind_a_stub(any_gdb: Gdb, small: Small, tmp_path: Path) -> None:
    """The machine is x86-64; a vmlinux that is not is refused before any search."""
    stopped = Stopped("four-level", tmp_path)
    vmlinux = of_another_architecture(stopped.vmlinux, tmp_path / "other")
    with Stub(stopped.behind_a_stub(), tmp_path / "stub") as stub:
        answers = any_gdb.run(
            f"target remote {stub.path}",
            f"source {LOADER}",
            f'set vmemmap symbols "{vmlinux}"',
            "vmemmap info",
        )
    assert answers[0].error is None, answers[0].error
    assert "aarch64 is not supported behind a stub" in str(answers[-1].error)


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Modelled:
    """Two nodes that have not the same number of folios."""
    steps = [
        {"do": "hugetlb_alloc", "size": "2M", "count": count, "node": node}
        for node, count in enumerate((5, 3))
    ]
    described = {
        "generation": "7.3",
        "machine": {"levels": 4, "kaslr": 5},
        "node": [{"memory": ["0-512M"]}, {"memory": ["4G-4608M"]}],
        "step": steps,
    }
    image = spec.build(spec.parse(described)).image()
    return Modelled(image, tmp_path_factory.mktemp("two-nodes"))


def test_b15_every_node_is_counted(any_gdb: Gdb, two_nodes: Modelled) -> None:
    before = opening(two_nodes.core("vmcore"), two_nodes.vmlinux)
    told = json.loads(any_gdb.text(*before, "vmemmap --format json hvo"))
    found = {r["node"]: r["found"] for r in told["rows"] if r["order"] == 9}
    assert found == {0: 5, 1: 3}
    assert told["totals"]["folios"] == 8


def test_b15_a_name_that_is_not_known_is_one_line(any_gdb: Gdb, small: Small) -> None:
    (answer,) = small.ask(any_gdb, "vmemmap page no_such_cache")
    assert str(answer.error).startswith("vmemmap: no symbol 'no_such_cache'")
    assert "\n" not in str(answer.error)


def test_b15_names_of_the_kernels_commands_stay_free(
    any_gdb: Gdb, small: Small
) -> None:
    """Even when all names are taken that we have something for."""
    _, *helps = small.ask(
        any_gdb, "vmemmap compat force", *(f"help {name}" for name in THEIRS)
    )
    assert all("Undefined command" in str(answer.error) for answer in helps)


def test_b16_the_path_of_an_error_has_no_error_of_its_own(
    any_gdb: Gdb, tmp_path: Path
) -> None:
    """A struct page whose frame was left out of the dump, asked for in every way."""
    modelled = Modelled(small_machine("four-level").image(), tmp_path)
    image = modelled.image
    va = image.facts["vmemmap"] + 64 * PFN
    found = walk(image, va)
    assert found is not None
    core = tmp_path / "without"
    excluded = [(found.frame, found.frame + 1)]
    write_vmcore(image, core, variant="physical", excluded=excluded)
    by_name, by_verb = any_gdb.run(
        *opening(core, modelled.vmlinux),
        f"output $lx_page({PFN})",
        f"vmemmap --format json page pfn:{PFN}",
    )[-2:]
    pa = (found.frame << 12) + va % 4096
    assert f"excluded: 64 bytes at physical address {pa:#x}" in str(by_name.error)
    assert by_verb.error is None, by_verb.error
    assert json.loads(by_verb.text)["missing"]
