# SPDX-License-Identifier: LGPL-2.1-or-later
"""How much of the door and of its target runs inside gdb, which is another process.

One session of the door, and a few in which the target is opened in its several ways;
what each shows is tested elsewhere, here only what ran is counted.
"""

from __future__ import annotations

import io
from pathlib import Path

import coverage
import pytest

from tests.target.gdb.cores import Modelled
from tests.target.gdb.machines import Stopped
from tests.target.gdb.test_core_opening import qemu_note, write_core
from tests.target.gdb.test_stub import verbs

from .door import Small
from .runner import COVERAGE, TOP, Gdb
from .stub import Stub, StubbedMachine
from .test_commands import THEIRS, WRONG
from .test_lx import (
    HIGH,
    PAGE_OPS,
    REFUSED,
    expected_lines,
    page_ops_expressions,
)

LEAST_PERCENT = 85
PACKAGE = TOP / "vmemmap_tools"
PARTS = {"door": f"{PACKAGE}/gdb_door/*", "target": f"{PACKAGE}/target/gdb*"}


def session(small: Small, out: Path) -> list[str]:
    """What users do, right and wrong."""
    return [
        "vmemmap",
        f"vmemmap sections > {out}",
        "vmemmap page &mem_section node_data pfn:max_pfn-1",
        "vmemmap walk &linux_banner[3]",
        "vmemmap --debug page",
        *WRONG,
        "complete vmemmap sections --for",
        "complete vmemmap sections --format c",
        "complete vmemmap walk linux_ban",
        *expected_lines(small),
        *REFUSED,
        f"output $lx_page({HIGH})._refcount",
        'output $lx_sym_to_pfn("linux_banner")',
        "output $lx_virt_to_phys(&vmemmap_base)",
        f"output $lx_pfn_to_kaddr({HIGH})",
        PAGE_OPS,
        *(f"python print({x})" for x in page_ops_expressions(small).values()),
        THEIRS,
        "vmemmap compat",
        "vmemmap compat off",
        "lx-page_to_pfn 1",
        "vmemmap compat force",
        "show vmemmap types",
        "set vmemmap types vmcoreinfo",
        "vmemmap info",
        "vmemmap kaslr --apply",
        "set vmemmap vmcoreinfo /nonexistent",
        "vmemmap info",
    ]


def of_cores(modelled: Modelled) -> list[str]:
    """Commands that open cores with and without what tells of the kernel in them."""
    image, directory = modelled.image, modelled.directory
    silent = write_core(image, directory / "silent", b"", "virtual")
    by_qemu = write_core(image, directory / "qemu", qemu_note(image), "physical")
    return [
        "python from tests.gdb_door import inside",
        "python inside.refusal()",
        f"core-file {silent}",
        "python inside.refusal()",
        f"symbol-file {modelled.vmlinux}",
        *(f"python {line}" for line in verbs()[:3]),
        f"core-file {by_qemu}",
        *(f"python {line}" for line in verbs()[:3]),
        "python inside.refusal(physical='directmap')",
        f"core-file {modelled.core('pathless')}",
        *(f"python {line}" for line in verbs(types="dwarf")),
    ]


def of_a_stub(machine: StubbedMachine, stopped: Stopped, gdb: Gdb, where: str) -> None:
    """Ask a machine everything, let it run, ask again what was not there before."""
    with Stub(machine, stopped.directory / "stub") as stub:
        answers = gdb.run(
            f"symbol-file {stopped.vmlinux}",
            f"target remote {stub.path}",
            "python from tests.gdb_door import inside",
            *(f"python {line}" for line in verbs()),
            "python i.target.read_physical(0xfee00000, 8)",
            "stepi",
            "python inside.refusal(physical='core')",
            variables={COVERAGE: where},
        )
    stub.path.unlink()
    assert answers[3].error is None, answers[3].error


@pytest.fixture(scope="module")
def measured(
    any_gdb: Gdb, small: Small, tmp_path_factory: pytest.TempPathFactory
) -> coverage.Coverage:
    directory = tmp_path_factory.mktemp("coverage")
    where = {COVERAGE: str(directory)}
    small.ask(any_gdb, *session(small, directory / "out"), variables=where)
    stopped = Stopped("four-level", tmp_path_factory.mktemp("stopped"))
    any_gdb.run(*of_cores(stopped), variables=where)
    plain = stopped.behind_a_stub(monitor=stopped.monitor, has_physical_mode=False)
    in_a_program = stopped.behind_a_stub("user", monitor=stopped.monitor)
    in_a_program.cpu.hides_cr = True
    for machine in (plain, in_a_program):
        of_a_stub(machine, stopped, any_gdb, str(directory))
    found = coverage.Coverage(data_file=str(directory / "all"), config_file=False)
    found.combine([str(path) for path in directory.glob("data*")])
    found.load()
    return found


@pytest.mark.parametrize("part", list(PARTS))
def test_it_is_covered_inside_gdb(measured: coverage.Coverage, part: str) -> None:
    report = io.StringIO()
    percent = measured.report(
        include=[PARTS[part]], file=report, show_missing=True, ignore_errors=True
    )
    assert percent > LEAST_PERCENT, report.getvalue()
