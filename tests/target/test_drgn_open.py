# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that cannot be opened: one line that says why, and exit status 2."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import pytest

from tests.fakes.elf import ET_EXEC, ET_REL, Load, build_id, elf, note
from vmemmap_tools.cli import main
from vmemmap_tools.target import drgn_qemu
from vmemmap_tools.target.base import TargetError
from vmemmap_tools.target.drgn_open import open_dump, open_qemu

from .dumps import BUILD_ID, RELEASE, core, write_core

OTHER_BUILD = b"\xcd" * 20
FOREIGN = elf(
    [Load(0, b"x" * 64)],
    note("VMCOREINFO", b"OSRELEASE=1\nPAGESIZE=4096\n"),
    machine=22,
)
"""A dump of s390x that says next to nothing."""


def vmlinux(folder: Path, build: bytes | None = None, kind: int = ET_EXEC) -> str:
    """An ELF file without debug info."""
    path = folder / "vmlinux"
    notes = build_id(bytes.fromhex(BUILD_ID) if build is None else build)
    path.write_bytes(elf(notes=notes, kind=kind))
    return str(path)


def kdump(folder: Path, *, utsname: bytes = b"Linux", blocks: int = 1) -> str:
    head = bytearray(4096)
    head[:8] = b"KDUMP   "
    head[12 : 12 + len(utsname)] = utsname
    head[12 + 130 : 12 + 133] = b"7.3" if utsname else b"\0\0\0"
    struct.pack_into("<IiiI", head, 424, 0, 4096, 1, 2)
    return write_core(folder, bytes(head) * blocks)


@dataclass(frozen=True)
class Case:
    """What is wrong, what is made of it in a folder, and words of the line."""

    name: str
    make: Callable[[Path], list[str]]
    words: str


CASES = [
    Case("a directory", lambda d: [str(d)], "is a directory"),
    Case("nothing", lambda d: [str(d / "gone")], "No such file or directory"),
    Case("an empty file", lambda d: [write_core(d, b"")], "is not a dump"),
    Case("text", lambda d: [write_core(d, b"hello " * 99)], "is not a dump"),
    Case("a 32-bit ELF", lambda d: [write_core(d, b"\x7fELF\x01" * 99)], "64-bit"),
    Case("a vmlinux as dump", lambda d: [vmlinux(d)], "give a vmlinux with -s"),
    Case("no note", lambda d: [write_core(d, core(has_note=False))], "--vmcoreinfo"),
    Case("a cut dump", lambda d: [write_core(d, core()[:-5000])], "5000 of "),
    Case("a cut header", lambda d: [write_core(d, core()[:200])], "is cut short"),
    Case(
        "cut notes",
        lambda d: [write_core(d, core()[: core().index(b"OSRELEASE")])],
        "is cut short before the end of its notes",
    ),
    Case(
        "no release", lambda d: [write_core(d, core({"OSRELEASE": None}))], "OSRELEASE"
    ),
    Case(
        "a page size that is none",
        lambda d: [write_core(d, core({"PAGESIZE": "5"}))],
        "PAGESIZE",
    ),
    Case(
        "an empty kdump header",
        lambda d: [kdump(d, utsname=b"", blocks=2)],
        "names no system",
    ),
    Case("a cut kdump", lambda d: [kdump(d)], "is truncated within the kdump"),
    Case(
        "a flattened dump cut short",
        lambda d: [write_core(d, b"makedumpfile".ljust(4096, b"\0"))],
        "flattened",
    ),
    Case(
        "another machine",
        lambda d: [write_core(d, FOREIGN)],
        "swapper_pg_dir",
    ),
    Case(
        "no vmlinux",
        lambda d: [write_core(d)],
        f"no debug info found for {RELEASE}: give its vmlinux with -s",
    ),
    Case(
        "a vmlinux of another build",
        lambda d: [write_core(d), vmlinux(d, OTHER_BUILD)],
        f"build-id {OTHER_BUILD.hex()}, not {BUILD_ID}",
    ),
    Case(
        "a vmlinux without debug info",
        lambda d: [write_core(d), vmlinux(d)],
        "or has no debug info",
    ),
    Case(
        "a module in the place of vmlinux",
        lambda d: [write_core(d), vmlinux(d, kind=ET_REL)],
        "or has no debug info",
    ),
    Case(
        "a text in the place of vmlinux",
        lambda d: [write_core(d), write_core(d, b"x" * 99, "vmlinux")],
        "is not a vmlinux",
    ),
    Case(
        "the dump in the place of vmlinux",
        lambda d: [write_core(d), write_core(d, core(), "vmlinux")],
        "is a dump, not a vmlinux",
    ),
    Case(
        "a directory in the place of vmlinux",
        lambda d: [write_core(d), str(d)],
        "is a directory",
    ),
    Case(
        "no file in the place of vmlinux",
        lambda d: [write_core(d), str(d / "gone")],
        "No such file",
    ),
]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture(autouse=True)
def nowhere_else_to_look(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("DEBUGINFOD_URLS", raising=False)
    yield


@each_case
def test_what_cannot_be_opened_is_one_target_error(case: Case, tmp_path: Path) -> None:
    path, *symbols = case.make(tmp_path)
    with pytest.raises(TargetError) as error:
        open_dump(path, symbols)
    text = str(error.value)
    assert case.words in text
    assert text and "\n" not in text
    assert path in text or symbols or RELEASE in text


@each_case
def test_the_command_line_says_so_in_one_line_with_exit_status_2(
    case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, *symbols = case.make(tmp_path)
    options = [word for symbol in symbols for word in ("-s", symbol)]
    assert main(["-c", path, *options, "summary"]) == 2
    out, err = capfd.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("vmemmap: ") and case.words in line
    assert "internal error" not in line and out == ""


def test_a_dump_without_a_note_takes_the_text_of_one(tmp_path: Path) -> None:
    path = write_core(tmp_path, core(has_note=False))
    text = "OSRELEASE=9.9\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffff80200000\n"
    with pytest.raises(TargetError, match=r"no debug info found for 9\.9"):
        open_dump(path, vmcoreinfo=text)


def test_a_qmp_socket_that_is_none_is_one_target_error(tmp_path: Path) -> None:
    with pytest.raises(TargetError) as error:
        open_qemu(str(tmp_path / "gone"))
    assert "gone" in str(error.value) and "\n" not in str(error.value)


def test_a_qmp_socket_that_somebody_else_holds_is_no_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU lets further clients connect, and greets them when the first has gone."""
    monkeypatch.setattr(drgn_qemu, "OPENING_SECONDS", 0.1)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "held"))
        server.listen()
        with pytest.raises(TargetError, match="another client holds it"):
            open_qemu(str(tmp_path / "held"))


def test_a_socket_without_a_listener_is_one_target_error(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "dead"))
    with pytest.raises(TargetError, match="dead: Connection refused"):
        open_qemu(str(tmp_path / "dead"))
