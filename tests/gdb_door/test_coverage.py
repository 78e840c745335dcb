# SPDX-License-Identifier: LGPL-2.1-or-later
"""How much of the door runs in gdb, measured there in one session of its own."""

from __future__ import annotations

import io
from pathlib import Path

import coverage
import pytest

from .door import Small
from .runner import COVERAGE, TOP, Gdb
from .test_commands import THEIRS, WRONG
from .test_lx import HIGH, REFUSED, expected_lines, page_ops_expressions

LEAST_PERCENT = 85
DOOR = TOP / "vmemmap_tools" / "gdb_door"


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
        "python from vmemmap_tools.gdb_door.mm import page_ops; ops = page_ops().ops",
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


@pytest.fixture(scope="module")
def measured(
    any_gdb: Gdb, small: Small, tmp_path_factory: pytest.TempPathFactory
) -> coverage.Coverage:
    directory = tmp_path_factory.mktemp("coverage")
    small.ask(
        any_gdb,
        *session(small, directory / "out"),
        variables={COVERAGE: str(directory)},
    )
    found = coverage.Coverage(data_file=str(directory / "all"), config_file=False)
    found.combine([str(path) for path in directory.glob("data*")])
    found.load()
    return found


def test_the_door_is_covered_inside_gdb(measured: coverage.Coverage) -> None:
    report = io.StringIO()
    percent = measured.report(
        include=[f"{DOOR}/*"], file=report, show_missing=True, ignore_errors=True
    )
    assert percent > LEAST_PERCENT, report.getvalue()
