# SPDX-License-Identifier: LGPL-2.1-or-later
"""BTF of another kernel than the dump's is refused, as far as anything tells."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

import pytest

from tests.model.kernels import small
from vmemmap_tools.cli import main
from vmemmap_tools.formats.btf import HEADER_SIZE, Enumerator, Kind, Member, Record
from vmemmap_tools.formats.btf_write import encode
from vmemmap_tools.target.base import TargetError
from vmemmap_tools.target.btf_types import BtfTypes
from vmemmap_tools.target.providers import compose
from vmemmap_tools.target.vmcoreinfo import VmcoreInfo

from .machines import BTF_AT, Described, MemoryWithTables

EXTRACTED = ("6.1", "6.12", "7.2", "7.3")
"""Generations whose types are those of a packaged kernel."""
ALIKE = "5.18"
"""One that exports the same sizes and offsets as 6.1."""


@pytest.fixture(scope="module")
def machines() -> Mapping[str, Described]:
    return {name: Described(small(name)) for name in (*EXTRACTED, ALIKE)}


@pytest.mark.parametrize(("theirs", "ours"), [*permutations(EXTRACTED, 2)])
def test_btf_of_another_release_is_refused(
    machines: Mapping[str, Described],
    theirs: str,
    ours: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By what VMCOREINFO exports: these dumps have no kallsyms."""
    path = machines[theirs].path / f"{theirs}.btf"
    path.write_bytes(machines[theirs].btf)
    core = str(machines[ours].path / "vmcore")
    assert main(["-c", core, "-s", str(path), "summary"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{path} is the BTF of another build than the kernel: " in line
    assert "VMCOREINFO SIZE(" in line


@pytest.mark.parametrize("name", EXTRACTED)
def test_the_kernels_own_btf_in_a_file_is_taken(
    machines: Mapping[str, Described], name: str
) -> None:
    path = machines[name].path / "own.btf"
    path.write_bytes(machines[name].btf)
    memory = MemoryWithTables(machines[name].memory, machines[name].tables)
    sources = [fact.source for fact in compose(memory, [str(path)]).types.evidence()]
    assert sources == [str(path)]


def test_btf_that_vmcoreinfo_cannot_tell_is_told_by_the_kernels_own(
    machines: Mapping[str, Described],
) -> None:
    ours = machines["6.1"]
    path = ours.path / "alike.btf"
    path.write_bytes(machines[ALIKE].btf)
    tables = ours.tables
    with pytest.raises(TargetError, match=r"which has its own of \d+ bytes: leave out"):
        compose(MemoryWithTables(ours.memory, tables), [str(path)])
    for unusable in (bytes(HEADER_SIZE), b""):  # not BTF, not in the dump
        tables.pieces[BTF_AT] = unusable
        found = compose(MemoryWithTables(ours.memory, tables), [str(path)])
        assert found.struct("page") is not None, "nothing contradicts it"
    tables.pieces[BTF_AT] = ours.btf


RECORDS = [
    Record(Kind.INT, "long unsigned int", 8, bits=64),
    Record(Kind.ARRAY, type=1, index_type=1, count=11),
    Record(Kind.STRUCT, "zone", 96, members=(Member("free_area", 2, 64),)),
    Record(Kind.ENUM, "pageflags", 4, enumerators=(Enumerator("PG_lru", 5),)),
]


@pytest.mark.parametrize(
    ("key", "right", "wrong"),
    [
        ("SIZE(zone)", 96, 104),
        ("OFFSET(zone.free_area)", 8, 16),
        ("LENGTH(zone.free_area)", 11, 10),
        ("NUMBER(PG_lru)", 5, 4),
    ],
)
def test_whatever_vmcoreinfo_exports_is_compared(
    key: str, right: int, wrong: int
) -> None:
    data = encode(RECORDS)
    BtfTypes.from_bytes(data, "x", VmcoreInfo(f"{key}={right}\n"))
    with pytest.raises(TargetError, match="another build"):
        BtfTypes.from_bytes(data, "x", VmcoreInfo(f"{key}={wrong}\n"))


@pytest.mark.parametrize(
    "key", ["SIZE(page)", "OFFSET(zone.lock)", "NUMBER(PG_x)", "LENGTH(mem_section)"]
)
def test_what_btf_says_nothing_of_is_no_contradiction(key: str) -> None:
    BtfTypes.from_bytes(encode(RECORDS), "x", VmcoreInfo(f"{key}=7\n"))
