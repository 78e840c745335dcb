# SPDX-License-Identifier: LGPL-2.1-or-later
"""Incomplete dumps: what is absent is a fault of its own kind, and never zeros."""

from __future__ import annotations

import io
import json
import os
import random
import struct
import subprocess
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Protocol

import pytest

from tests.model.kernels import GIB, small
from tests.target.dumps import PA, VA, core, write_core
from tests.tools import output, require_tool
from vmemmap_tools.cli import main
from vmemmap_tools.target.base import Fault, TargetError, incomplete
from vmemmap_tools.target.drgn_open import open_dump
from vmemmap_tools.target.dump_files import inspect_dump
from vmemmap_tools.target.elf_core import CoreMemory

PAGE = 4096
SEED = 13


class Readable(Protocol):
    def read_physical(self, address: int, size: int) -> bytes: ...


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine of 1 GiB with 2M pages: vmcore, vmcore.kdump and vmlinux."""
    path = tmp_path_factory.mktemp("whole")
    small("7.3").hugetlb_alloc("2M", 8).write(path, kdump=True)
    return path


def cut(source: Path, target: Path, size: int) -> str:
    subprocess.run(["cp", "--sparse=always", source, target], check=True)
    os.truncate(target, size)
    return str(target)


def state(memory: Readable, pa: int) -> bytes | str:
    """What is read of a page, or the kind of the fault."""
    try:
        return memory.read_physical(pa, PAGE)
    except Fault as fault:
        return fault.kind


def is_same_or_cut(whole: Readable, other: Readable) -> int:
    """Compare pages of all memory; returns how many are cut."""
    pages = [*range(0, 16 << 20, 8 * PAGE), *range(0, GIB, 1 << 21)]
    cuts = 0
    for pa in pages:
        expected, found = state(whole, pa), state(other, pa)
        if found == "cut":
            assert isinstance(expected, bytes), hex(pa)
            cuts += 1
        else:
            assert found == expected, hex(pa)
    return cuts


def sizes(path: Path, headers: int, count: int) -> list[int]:
    """Seeded sizes to cut a file to, its headers left whole."""
    dice = random.Random(SEED)
    return [dice.randrange(headers, path.stat().st_size) for _ in range(count)]


# Reading


def test_an_elf_file_that_is_cut_reads_as_the_whole_one_or_not_at_all(
    folder: Path, tmp_path: Path
) -> None:
    vmlinux = [str(folder / "vmlinux")]
    whole = open_dump(str(folder / "vmcore"), vmlinux)
    # Notes lie behind the room for program headers.
    for size in [2 << 20, *sizes(folder / "vmcore", 2 << 20, 4)]:
        path = cut(folder / "vmcore", tmp_path / "cut", size)
        cuts = is_same_or_cut(whole, CoreMemory(path))
        assert cuts or size > 2 << 20
        opened = open_or_none(path, vmlinux)
        if opened is not None:
            assert is_same_or_cut(whole, opened) == cuts


def test_a_kdump_file_that_is_cut_reads_as_the_whole_one_or_not_at_all(
    folder: Path, tmp_path: Path
) -> None:
    kdump, vmlinux = folder / "vmcore.kdump", [str(folder / "vmlinux")]
    whole = open_dump(str(kdump), vmlinux)
    table, pages = descriptors(kdump)
    for size in [table + 24 * pages // 2, *sizes(kdump, table, 5)]:
        path = cut(kdump, tmp_path / "cut.kdump", size)
        opened = open_or_none(path, vmlinux)
        if opened is not None:
            assert is_same_or_cut(whole, opened)


def open_or_none(path: str, vmlinux: list[str]) -> Readable | None:
    """The memory of a cut dump; None where page tables are cut, which is said."""
    try:
        return open_dump(path, vmlinux)
    except TargetError as error:
        assert f"{path} is cut short" in str(error)
        return None


def descriptors(kdump: Path) -> tuple[int, int]:
    """Where the page descriptors of a kdump file begin, and how many there are."""
    data = kdump.read_bytes()
    _, block, sub, bitmaps = struct.unpack_from("<IiiI", data, 424)
    (pages,) = struct.unpack_from("<I", data, 424 + 28)
    return block * (1 + sub + bitmaps), pages


def test_a_virtual_address_whose_page_is_cut_is_a_fault_of_that_kind(
    tmp_path: Path,
) -> None:
    whole = core()
    path = write_core(tmp_path, whole[: whole.index(b"\x11" * PAGE) + 100])
    for read, address in (
        (CoreMemory(path).read_physical, PA + 200),
        (CoreMemory(path).read, VA + 200),
    ):
        with pytest.raises(Fault) as caught:
            read(address, 8)
        assert caught.value.kind == "cut"


# Answers


def ask(*words: object) -> tuple[int, str, list[str]]:
    """Status, output and lines of standard error."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(list(map(str, words)))
    return status, out.getvalue(), err.getvalue().splitlines()


@pytest.mark.parametrize("name", ["vmcore", "vmcore.kdump"])
def test_a_cut_dump_opens_with_one_line_and_counts_what_is_cut(
    folder: Path, tmp_path: Path, name: str
) -> None:
    size = (folder / name).stat().st_size
    path = cut(folder / name, tmp_path / name, size - size // 8)
    words = ["-c", path, "-s", folder / "vmlinux", "--format", "json"]
    status, out, (line,) = ask(*words, "hvo", "--folios")
    assert status == 0
    assert line.startswith(f"vmemmap: warning: {path} is cut short")
    assert str(size // 8) in line or "pages are absent" in line
    assert set(json.loads(out)["missing"]) == {"cut"}


def test_info_shows_that_the_dump_is_incomplete(folder: Path, tmp_path: Path) -> None:
    size = (folder / "vmcore").stat().st_size
    path = cut(folder / "vmcore", tmp_path / "vmcore", size - PAGE)
    words = ["-c", path, "-s", folder / "vmlinux", "--format", "json", "info"]
    rows = json.loads(ask(*words)[1])["rows"]
    (row,) = (row for row in rows if row["subject"] == "dump")
    assert row["source"] == f"{path} is cut short: 4096 of {size} bytes are absent"


# Marked by makedumpfile


def test_a_kdump_that_makedumpfile_marked_incomplete_says_so(
    folder: Path, tmp_path: Path
) -> None:
    data = bytearray((folder / "vmcore.kdump").read_bytes())
    table, pages = descriptors(folder / "vmcore.kdump")
    # A full disk: the last pages got neither data nor a descriptor.
    lost = pages // 4
    data[table + 24 * (pages - lost) : table + 24 * pages] = bytes(24 * lost)
    data[424] |= 8
    path = tmp_path / "vmcore.kdump"
    path.write_bytes(data)
    target = open_dump(str(path), [str(folder / "vmlinux")])
    assert f"makedumpfile marked {path} incomplete" in incomplete(target)
    assert f"{lost} of {pages} pages are absent" in incomplete(target)
    whole = open_dump(str(folder / "vmcore.kdump"), [str(folder / "vmlinux")])
    assert is_same_or_cut(whole, target)


def test_an_elf_that_makedumpfile_marked_incomplete_says_so(tmp_path: Path) -> None:
    data = bytearray(core())
    struct.pack_into("<I", data, 48, 1)  # e_flags: DUMP_ELF_INCOMPLETE
    path = write_core(tmp_path, bytes(data))
    assert f"makedumpfile marked {path} incomplete" in inspect_dump(path).incomplete


# makedumpfile's other forms


@pytest.fixture(scope="module")
def converted(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Run makedumpfile on the machine in a directory of its own."""

    def convert(*words: str) -> Path:
        here = tmp_path_factory.mktemp("made")
        places = [str(here / w) if w.startswith("out") else w for w in words]
        sources = [str(folder / "vmcore") if w == "IN" else w for w in places]
        output("makedumpfile", *sources)
        return here

    return convert


def test_a_part_of_a_split_dump_is_refused_and_joined_parts_are_read(
    folder: Path, converted: Callable[..., Path]
) -> None:
    here = converted("-c", "-d", "31", "--split", "IN", "out1", "out2")
    for name in ("out1", "out2"):
        status, out, (line,) = ask("-c", here / name, "hvo")
        assert (status, out) == (2, "")
        assert "is one part of a split dump" in line
        assert "makedumpfile --reassemble" in line
    parts = [str(here / "out1"), str(here / "out2")]
    output("makedumpfile", "--reassemble", *parts, here / "whole")
    words = ["-s", folder / "vmlinux", "--format", "json", "hvo"]
    joined, whole = (
        json.loads(ask("-c", path, *words)[1])
        for path in (here / "whole", folder / "vmcore")
    )
    assert joined["rows"] == whole["rows"] and joined["rows"]


def test_a_flattened_dump_is_read_and_a_cut_one_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    flat = tmp_path / "flat"
    with flat.open("wb") as file:
        command = [require_tool("makedumpfile"), "-F", "-c", "-d", "31"]
        subprocess.run([*command, folder / "vmcore"], stdout=file, check=True)
    words = ["-s", folder / "vmlinux", "hvo"]
    assert ask("-c", flat, *words)[::2] == (0, [])
    for size in (100, 5000, flat.stat().st_size // 2, flat.stat().st_size - 1):
        status, out, (line,) = ask("-c", cut(flat, tmp_path / "half", size), *words)
        assert (status, out) == (2, "")
        assert "flattened" in line and "cut short" in line and "copy it again" in line


def test_a_capsule_that_is_cut_says_so(folder: Path, tmp_path: Path) -> None:
    whole = tmp_path / "capsule"
    words = ["-c", folder / "vmcore", "-s", folder / "vmlinux", "capsule", whole]
    assert ask(*words)[0] == 0
    path = cut(whole, tmp_path / "half", whole.stat().st_size - PAGE)
    status, out, (line,) = ask("-c", path, "hvo")
    assert (status, out) == (2, "")
    assert f"{path} is cut short" in line and "copy it again" in line
