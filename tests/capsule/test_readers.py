# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plain drgn and plain gdb read from a capsule what the original holds, and no more."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import drgn
import pytest

from tests.tools import require_tool
from vmemmap_tools.capsule import Capsule, capture, write_elf
from vmemmap_tools.cli import main
from vmemmap_tools.formats.elf import Elf
from vmemmap_tools.model import spec
from vmemmap_tools.target.base import Fault
from vmemmap_tools.target.drgn_open import open_dump

PN_XNUM = 0xFFFF
MANY = 70_000
FIRST_PA = 1 << 40
"""Beyond the memory of the machine."""
PAGE = 4096


@dataclass(frozen=True)
class Original:
    """A dump, and how it is opened."""

    directory: Path

    @property
    def opening(self) -> list[str]:
        return ["-c", str(self.core), "-s", str(self.directory / "vmlinux")]

    @property
    def core(self) -> Path:
        return self.directory / "vmcore"

    @property
    def prog(self) -> drgn.Program:
        return drgn.program_from_core_dump(str(self.core))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Original:
    directory = tmp_path_factory.mktemp("readers")
    spec.build(spec.load(spec.samples()["laptop"])).write(directory)
    return Original(directory)


@pytest.fixture(scope="module")
def elf(original: Original) -> Path:
    path = original.directory / "elf"
    assert main([*original.opening, "capsule", str(path)]) == 0
    return path


def gdb(core: Path, *commands: str) -> list[str]:
    """What gdb, without any script of ours, prints."""
    program = require_tool("gdb")
    arguments = [program, "-nx", "-batch", "-ex", f"core-file {core}"]
    for command in commands:
        arguments += ["-ex", command]
    result = subprocess.run(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return result.stdout.splitlines()


def test_all_that_headers_name_is_in_the_file(elf: Path) -> None:
    with Elf(str(elf)) as file:
        loads = file.loads()
    assert loads == sorted(loads, key=lambda load: load.pa)
    assert all(load.file_size == load.memory_size for load in loads)


def test_drgn_reads_every_range_as_in_the_original(
    original: Original, elf: Path
) -> None:
    ours, whole = drgn.program_from_core_dump(str(elf)), original.prog
    with Elf(str(elf)) as file:
        loads = file.loads()
    assert loads
    for load in loads:
        expected = whole.read(load.pa, load.file_size, True)
        assert ours.read(load.pa, load.file_size, True) == expected
        assert ours.read(load.va, load.file_size) == expected


def test_gdb_reads_every_range_as_in_the_original(
    original: Original, elf: Path, tmp_path: Path
) -> None:
    whole = original.prog
    with Elf(str(elf)) as file:
        loads = file.loads()
    out = tmp_path / "memory"
    gdb(
        elf,
        *(
            f"append binary memory {out} {load.va:#x} {load.va + load.file_size:#x}"
            for load in loads
        ),
    )
    expected = b"".join(whole.read(load.pa, load.file_size, True) for load in loads)
    assert out.read_bytes() == expected


@pytest.fixture(scope="module")
def many(original: Original) -> Path:
    """A capsule of more ranges than ``e_phnum`` counts."""
    target = open_dump(str(original.core), [str(original.directory / "vmlinux")])
    capsule: Capsule = capture(target, lambda kernel: None)
    for i in range(MANY):
        word = (i % 1000).to_bytes(8, "little")
        capsule.store.put(FIRST_PA + i * PAGE, word * 8, "lists")
    path = original.directory / "many"
    with open(path, "w+b") as file:
        write_elf(capsule, file)
    with Elf(str(path)) as file:
        assert len(file.segments) > PN_XNUM
    return path


def test_more_ranges_than_the_header_counts(many: Path) -> None:
    ours = open_dump(str(many))
    slide = _slide(many)
    plain = drgn.program_from_core_dump(str(many))
    for i in (0, 1, 999, 1000, PN_XNUM - 1, PN_XNUM, MANY - 1):
        pa, expected = FIRST_PA + i * PAGE, (i % 1000).to_bytes(8, "little") * 8
        assert ours.read_physical(pa, 64) == expected
        assert plain.read(pa, 64, True) == expected
        assert plain.read(pa + slide, 64) == expected
        with pytest.raises(Fault):
            ours.read_physical(pa + 64, 1)
        with pytest.raises(drgn.FaultError):
            plain.read(pa + 64, 1, True)


def test_gdb_reads_them_too(many: Path) -> None:
    slide = _slide(many)
    last = FIRST_PA + (MANY - 1) * PAGE + slide
    lines = gdb(
        many,
        f"x/gx {FIRST_PA + PAGE + slide:#x}",
        f"x/gx {last:#x}",
        f"x/gx {last + 64:#x}",
    )
    assert lines[-3].split()[1:] == ["0x0000000000000001"]
    assert lines[-2].split()[1:] == [f"{(MANY - 1) % 1000:#018x}"]
    assert "Cannot access memory" in lines[-1]


def _slide(path: Path) -> int:
    with Elf(str(path)) as file:
        load = next(load for load in file.loads() if load.pa == FIRST_PA)
    return load.va - load.pa
