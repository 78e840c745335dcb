# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel's own mm.py beside ours, on the same kernels and questions.

It cannot run on the dumps as they are: it needs gdb's symbols moved, and variables that
gdb reads by virtual address. A core of the kernel's image alone gives it both; there it
has to print our lines, byte for byte, wherever it is right.
"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.gdb_door.door import LOADER
from tests.gdb_door.runner import find_gdb
from vmemmap_tools.formats.elf import ET_CORE
from vmemmap_tools.formats.elf_write import file_header, note, program_header

from .compare import Compare
from .kernel_scripts import kernel_scripts
from .runs import Run
from .test_gdb import LINE, Judge, Session, judge, session
from .truth import Truth
from .walk import STRUCT_PAGE, PhysicalMemory, QemuWalk

__all__ = ["judge", "session"]

PT_LOAD, PT_NOTE, NT_PRSTATUS = 1, 4, 1
PAGE = 4096
IMAGE = "kernel"
BY_ARITHMETIC = ("direct map", IMAGE)
"""Areas where the kernel's script is right; elsewhere it computes as if they were."""
TOO_MUCH = {
    "virt_to_phys": (1 << 64, 1 << 65),
    "sym_to_pfn": (1 << 52, 1 << 53),
    "virt_to_page": ((1 << 52) * STRUCT_PAGE, 1 << 64),
}
"""{function: (what its answer has too much, what that is taken modulo)}, in the image.

``phys_base`` is negative where the image lies lower in memory than it was linked for.
The script reads it as unsigned and adds it to Python's integers, which have no end.
"""


def write_image_core(run: Run, walk: QemuWalk, truth: Truth, path: Path) -> None:
    """A core that holds the kernel's image at its virtual address, and a thread."""
    start, end = truth.kallsyms["_text"], truth.kallsyms["_end"]
    size = (end - start + PAGE - 1) // PAGE * PAGE
    data = PhysicalMemory(run.elf).read(walk.translate(start).pa, size)
    status = bytearray(336)
    struct.pack_into("<I", status, 32, 1)  # pr_pid
    notes = note("CORE", NT_PRSTATUS, bytes(status))
    at = 64 + 2 * 56
    headers = (
        file_header(ET_CORE, 62, 2)
        + program_header(PT_NOTE, 0, at, 0, 0, len(notes), len(notes), 4)
        + program_header(PT_LOAD, 7, PAGE, start, 0, size, size, PAGE)
    )
    path.write_bytes((headers + notes).ljust(PAGE, b"\0") + data)


@pytest.fixture(scope="module")
def kernels_answers(
    run: Run,
    walk: QemuWalk,
    truth: Truth,
    session: Session,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    """{command: the line or the error that the kernel's script has for it}"""
    directory = tmp_path_factory.mktemp("image")
    core = directory / "core"
    write_image_core(run, walk, truth, core)
    commands = [c for c, _ in session.lines if "&" not in c and "_" not in c.split()[1]]
    before = [
        f"symbol-file {run.vmlinux}",
        f"core-file {run.elf}",
        f"source {LOADER}",
        "vmemmap kaslr --apply",
        f"core-file {core}",
        f"python import sys; sys.path.insert(0, {str(kernel_scripts())!r})",
        "python import linux.mm",
    ]
    answers = find_gdb("distribution").run(*before, *commands, timeout=900)
    for command, answer in zip(before, answers):
        assert answer.error is None, f"{command}: {answer.error}"
    core.unlink()
    told = answers[len(before) :]
    return {c: a.error or a.text for c, a in zip(commands, told)}


def has_negative_base(run: Run) -> bool:
    """Whether the kernel says so of its ``phys_base``."""
    return "NUMBER(phys_base)=-" in run.vmcoreinfo.read_text()


def with_too_much(line: str) -> str:
    """The line that the script prints in place of this one."""
    found = LINE.fullmatch(line)
    assert found is not None
    function, argument, answer = found.groups()
    extra, modulus = TOO_MUCH[function]
    number = (int(answer, 0) + extra) % modulus
    shown = f"{number:#x}" if answer.startswith("0x") else str(number)
    return f"{function}({argument}) = {shown}\n"


@pytest.mark.variants("kaslr")
def test_the_kernels_script_prints_the_same_lines_where_it_is_right(
    kernels_answers: dict[str, str],
    session: Session,
    judge: Judge,
    run: Run,
    compare: Compare,
) -> None:
    areas = judge.addresses.items()
    walked = {va for area, va in areas if not area.startswith(BY_ARITHMETIC)}
    image = {va for area, va in areas if area.startswith(IMAGE)}
    is_unmasked = has_negative_base(run)
    right = 0
    for command, theirs in kernels_answers.items():
        ours = session.answers[command].text
        word = command.split()[1].replace("0x", "")
        is_walked = "virt" in command or "sym" in command
        if is_walked and int(word, 16) in walked:
            compare.true(
                f"gdb: {command}: the kernel's mm.py is wrong, ours is info tlb",
                ours != theirs,
                f"theirs {theirs.strip()}",
            )
            continue
        if is_walked and is_unmasked and int(word, 16) in image:
            what = f"gdb: {command} = the kernel's mm.py but for its endless integers"
            compare.equal(what, theirs, with_too_much(ours), theirs.strip())
            continue
        what = f"gdb: {command} = the kernel's mm.py"
        compare.equal(what, ours, theirs, theirs.strip())
        right += 1
    assert right >= 40
