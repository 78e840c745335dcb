# SPDX-License-Identifier: LGPL-2.1-or-later
"""drgn's own helpers, and the scripts of contrib/, on a capsule as on its dump."""

from __future__ import annotations

import lzma
import runpy
from dataclasses import dataclass
from pathlib import Path

import drgn
import pytest
from drgn.helpers.linux.mm import (
    compound_head,
    follow_phys,
    for_each_page,
    page_to_pfn,
    pfn_to_page,
)

import vmemmap_tools.drgn_plugin  # noqa: F401 - registers the command
from tests.model.kernels import GENERATIONS, small
from tests.samples import open_with_drgn
from vmemmap_tools.analysis.summary import Summary
from vmemmap_tools.cli import main
from vmemmap_tools.drgn_helpers import (
    folio_backing,
    page_to_nid,
    page_zonenum,
    vmemmap_missing,
    vmemmap_savings,
)
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.target.drgn_open import open_dump

CONTRIB = Path(__file__).parents[2] / "contrib"
CAPTURES = Path(__file__).parents[2] / "vmcores" / "real"


@dataclass(frozen=True)
class Pair:
    """A dump and the capsule made of it, both with the vmlinux."""

    dump: drgn.Program
    capsule: drgn.Program
    head_pfn: int


@pytest.fixture(scope="module", params=GENERATIONS)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Pair:
    path = tmp_path_factory.mktemp("pair")
    machine = small(request.param).hugetlb_alloc("2M", 4)
    machine.set_hvo(False).hugetlb_alloc("2M", 1).write(path)
    core, vmlinux, made = (str(path / name) for name in ("vmcore", "vmlinux", "made"))
    assert main(["-c", core, "-s", vmlinux, "capsule", made]) == 0
    return Pair(
        open_with_drgn(core, vmlinux),
        open_with_drgn(made, vmlinux),
        machine.books()["folios"][0]["head_pfn"],
    )


def answers(prog: drgn.Program, pfn: int) -> list[object]:
    page = pfn_to_page(prog, pfn + 3)
    return [
        prog["vmemmap"].value_(),
        page.value_(),
        page_to_pfn(page).value_(),
        compound_head(page).value_(),
        follow_phys(prog["init_mm"].address_of_(), page).value_(),
        prog["max_pfn"].value_(),
        prog["min_low_pfn"].value_(),
        first_page(prog),
    ]


def first_page(prog: drgn.Program) -> int | None:
    """None where drgn itself does not know the sections (of 24 bytes each)."""
    if prog.type("struct mem_section").size == 24:
        return None
    found: int = next(iter(for_each_page(prog))).value_()
    return found


def test_drgns_own_helpers_answer_as_on_the_dump(pair: Pair) -> None:
    expected = answers(pair.dump, pair.head_pfn)
    assert answers(pair.capsule, pair.head_pfn) == expected
    head_va = pair.dump["vmemmap"].value_() + 64 * pair.head_pfn
    assert expected[2:4] == [pair.head_pfn + 3, head_va]


@pytest.mark.parametrize("index", [0, 1, 63, 100, 511])
def test_helpers_of_ours_answer_as_on_the_dump(pair: Pair, index: int) -> None:
    """A capsule holds single words of most tails."""
    told = []
    for prog in (pair.dump, pair.capsule):
        page = pfn_to_page(prog, pair.head_pfn + index)
        backing = folio_backing(page)
        told.append(
            (page_to_nid(page), page_zonenum(page), backing.layout, backing.kept_frames)
        )
    assert told[0] == told[1]


@pytest.mark.parametrize(
    "name", ["explain_fault", "frame_users", "hvo_per_node", "not_optimized"]
)
def test_scripts_answer_as_on_the_dump(
    pair: Pair,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    page = pfn_to_page(pair.dump, pair.head_pfn + 100)
    frame = follow_phys(pair.dump["init_mm"].address_of_(), page).value_() >> 12
    words = {"explain_fault": [f"{page.value_():#x}"], "frame_users": [f"{frame:#x}"]}
    script = CONTRIB / f"{name}.py"
    monkeypatch.setattr("sys.argv", [str(script), *words.get(name, [])])
    told = []
    for prog in (pair.dump, pair.capsule):
        drgn.set_default_prog(prog)
        runpy.run_path(str(script), run_name="__main__")
        told.append(capfd.readouterr())
    drgn.set_default_prog(None)
    assert told[0] == told[1]
    assert told[0].out and not told[0].err


def test_a_committed_capture_answers_in_plain_drgn_without_vmlinux(
    tmp_path: Path,
) -> None:
    """By the types that were recorded, and with the single words that it holds."""
    core = tmp_path / "core"
    packed = CAPTURES / "6.12.118+deb13-cloud-amd64_kaslr.core.xz"
    core.write_bytes(lzma.decompress(packed.read_bytes()))
    totals = Summary(Kernel(open_dump(str(core)))).totals()
    prog = open_with_drgn(str(core))
    found = vmemmap_savings(prog)
    assert found.saved_hugetlb == totals["saved_hugetlb_bytes"]
    assert found.saved_hugetlb is not None and found.saved_hugetlb > 0
    assert found.saved_dax == totals["saved_dax_bytes"]
    assert vmemmap_missing(prog) == {}
