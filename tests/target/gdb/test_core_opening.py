# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cores that lack something: understood by what they have, or refused in one line."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.gdb_door.runner import Answer, Gdb
from tests.model.walk import walk
from vmemmap_tools.cli import main
from vmemmap_tools.formats.core_write import CoreWriter
from vmemmap_tools.formats.elf import Elf
from vmemmap_tools.formats.elf_write import note
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.model.write import write_vmcore
from vmemmap_tools.target.drgn_open import open_dump

from .cores import KASLR, MACHINES, Modelled, ask, small_machine

VERBS = ("summary", "hvo --folios", "walk vmemmap_base")


@pytest.fixture(scope="module")
def modelled(tmp_path_factory: pytest.TempPathFactory) -> Modelled:
    image = small_machine("four-level").image()
    return Modelled(image, tmp_path_factory.mktemp("cores"))


def qemu_note(image: Any) -> bytes:
    """The note in which QEMU keeps a CPU's registers (its ``QEMUCPUState``)."""
    is_la57 = image.facts["levels"] == 5
    cr3, cr4 = image.tables.root_pfn << 12, (1 << 12) * is_la57
    head = struct.pack("<II", 1, 440) + bytes(18 * 8 + 10 * 24)
    state = head + struct.pack("<5QQ", 0, 0, 0, cr3, cr4, 0)
    assert len(state) == 440
    return note("QEMU", 0, state)


def write_core(image: Any, path: Path, notes: bytes, form: str) -> Path:
    """A core with these notes: "physical", or with virtual addresses."""
    slide = 0 if form == "physical" else image.facts["page_offset"]
    with open(path, "wb") as file:
        core = CoreWriter(file, image.arch.elf_machine, notes, 4096)
        for start, end in image.memory.ranges:
            chunks = image.memory.chunks(start, end)
            core.load(slide + start, start, end - start, chunks)
        if form != "physical":
            va = image.arch.image_va + image.kaslr_offset
            pa = va - image.arch.image_map + image.phys_base
            core.alias(va, pa, 8 << 20)
        core.finish()
    return path


def opened(
    gdb: Gdb, modelled: Modelled, core: Path, *lines: str, vmlinux: bool = True
) -> list[Answer]:
    """What lines of Python print with this core open."""
    answers = gdb.run(
        f"symbol-file {modelled.vmlinux}" if vmlinux else "symbol-file",
        f"core-file {core}",
        "python from tests.gdb_door import inside",
        *(f"python {line}" for line in lines),
    )
    return answers[3:]


@pytest.mark.parametrize("name", list(MACHINES))
def test_a_dump_of_qemu_without_vmcoreinfo_is_known_by_its_registers(
    any_gdb: Gdb, name: str, tmp_path: Path
) -> None:
    modelled = Modelled(small_machine(name).image(), tmp_path)
    image = modelled.image
    core = write_core(image, tmp_path / "core", qemu_note(image), "physical")
    lines = ["i = inside.Inferior()", *(f"i.ask({verb!r})" for verb in VERBS)]
    lines += ["print(i.target.evidence()[1])"]
    first, *told, evidence = opened(any_gdb, modelled, core, *lines)
    assert first.error is None, first.error
    for verb, answer in zip(VERBS, told):
        assert json.loads(answer.text) == modelled.answers("vmcore")[verb]
    assert f"value='{image.kaslr_offset:#x}'" in evidence.text
    assert "page tables" in evidence.text and "banner verified" in evidence.text


def test_a_core_without_any_note_is_searched_for_the_banner(
    any_gdb: Gdb, modelled: Modelled, tmp_path: Path
) -> None:
    core = write_core(modelled.image, tmp_path / "core", b"", "virtual")
    lines = ["i = inside.Inferior()", *(f"i.ask({verb!r})" for verb in VERBS)]
    first, *told = opened(any_gdb, modelled, core, *lines)
    assert first.error is None, first.error
    for verb, answer in zip(VERBS, told):
        assert json.loads(answer.text) == modelled.answers("vmcore")[verb]


def test_the_direct_map_serves_where_it_is_asked_for(
    any_gdb: Gdb, modelled: Modelled
) -> None:
    lines = ["i = inside.Inferior(physical='directmap')", "i.ask('summary')"]
    first, answer = opened(any_gdb, modelled, modelled.core("vmcore"), *lines)
    assert first.error is None, first.error
    assert json.loads(answer.text) == modelled.answers("vmcore")["summary"]


def test_a_variable_that_was_left_out_is_not_zero(
    any_gdb: Gdb, modelled: Modelled, tmp_path: Path
) -> None:
    symbol = modelled.image.symbols["page_offset_base"]
    found = walk(modelled.image, symbol.address + modelled.image.kaslr_offset)
    assert found is not None
    core = tmp_path / "core"
    excluded = [(found.frame, found.frame + 1)]
    write_vmcore(modelled.image, core, variant="physical", excluded=excluded)
    lines = [
        "t = inside.open_inferior()",
        "t.read(t.symbol('page_offset_base'), 8)",
        "print(t.unsigned('page_offset_base'))",
    ]
    first, read, value = opened(any_gdb, modelled, core, *lines)
    assert first.error is None, first.error
    assert "Fault: excluded" in str(read.error)
    assert value.text == "None\n"


REFUSALS = {
    "no physical mode": ("vmcore", {"physical": "qemu"}, "a core has no physical mode"),
    "no direct map": ("physical", {"physical": "directmap"}, "physical addresses only"),
    "no BTF": ("vmcore", {"types": "btf"}, "has no section .BTF"),
    "another note": (
        "vmcore",
        {"vmcoreinfo": f"OSRELEASE=1\nBUILD-ID={'ab' * 20}\n"},
        "is of another build than the kernel: build-id",
    ),
    "no number": (
        "vmcore",
        {"vmcoreinfo": "OSRELEASE=1\nKERNELOFFSET=z\n"},
        "KERNELOFFSET is no number",
    ),
}


@pytest.mark.parametrize("case", list(REFUSALS))
def test_a_refusal_is_one_line(any_gdb: Gdb, modelled: Modelled, case: str) -> None:
    form, opening, words = REFUSALS[case]
    words_given = ", ".join(f"{key}={value!r}" for key, value in opening.items())
    line = f"inside.refusal({words_given})"
    (answer,) = opened(any_gdb, modelled, modelled.core(form), line)
    assert answer.error is None, answer.error
    assert words in answer.text and "\n" not in answer.text


def test_a_note_that_puts_the_kernel_elsewhere_is_refused(
    any_gdb: Gdb, modelled: Modelled
) -> None:
    core = modelled.core("physical")
    with Elf(core) as elf:
        text = (elf.note("VMCOREINFO") or b"").decode()
    actual = modelled.image.kaslr_offset + 0xFFFFFFFF81000000
    moved = re.sub(
        r"(_stext|init_uts_ns|swapper_pg_dir|node_online_map|prb)\)=(\w+)",
        lambda found: f"{found[1]})={int(found[2], 16) + (2 << 20):x}",
        text,
    )
    torn = text.replace(
        f"SYMBOL(_stext)={actual:x}", f"SYMBOL(_stext)={actual + (2 << 20):x}"
    )
    assert len({moved, torn, text}) == 3
    base = modelled.image.phys_base
    lost = text.replace(f"phys_base)={base}", f"phys_base)={base + (64 << 20)}")
    assert lost != text
    lines = [f"inside.refusal(vmcoreinfo={note!r})" for note in (moved, torn, lost)]
    banner, build, tables = opened(any_gdb, modelled, core, *lines)
    assert "its banner is not where VMCOREINFO has it" in banner.text
    assert "its symbols are not as far from each other" in build.text
    assert "its page tables are not at" in tables.text


def test_a_note_that_contradicts_itself_is_shown_to(
    any_gdb: Gdb, modelled: Modelled
) -> None:
    """The offset of KASLR stands once in `info`, unless it is told in two ways."""
    core = modelled.core("physical")
    with Elf(core) as elf:
        text = (elf.note("VMCOREINFO") or b"").decode()
    offset = modelled.image.kaslr_offset
    other = text.replace(f"KERNELOFFSET={offset:x}", "KERNELOFFSET=5000000")
    assert other != text
    lines = [f"inside.Inferior(vmcoreinfo={n!r}).ask('info')" for n in (text, other)]
    told = opened(any_gdb, modelled, core, *lines)
    values = [
        [row["value"] for row in json.loads(a.text)["rows"] if row["subject"] == KASLR]
        for a in told
    ]
    assert values == [[f"{offset:#x}"], [f"{offset:#x}", "0x5000000"]]


def test_without_a_vmlinux_there_are_no_types_of_another_program(
    any_gdb: Gdb, modelled: Modelled, tmp_path: Path
) -> None:
    lines = ["inside.refusal(types='dwarf')", "i = inside.Inferior()", "i.ask('info')"]
    core = modelled.core("vmcore")
    dwarf, first, info = opened(any_gdb, modelled, core, *lines, vmlinux=False)
    assert dwarf.text == "gdb has no vmlinux: symbol-file VMLINUX"
    assert first.error is None, first.error
    assert '"value": "VMCOREINFO"' in info.text
    bare = write_core(modelled.image, tmp_path / "core", b"", "virtual")
    (answer,) = opened(any_gdb, modelled, bare, "inside.refusal()", vmlinux=False)
    assert "has no VMCOREINFO note: load the kernel's vmlinux" in answer.text


def test_a_core_that_was_cut_short_is_opened_with_a_warning(
    any_gdb: Gdb, modelled: Modelled, tmp_path: Path
) -> None:
    core = tmp_path / "core"
    core.write_bytes(modelled.core("physical").read_bytes()[:-5000])
    lines = ["i = inside.Inferior()", "i.ask('info')"]
    _, answer = opened(any_gdb, modelled, core, *lines)
    rows = json.loads(answer.text)["rows"]
    (value,) = [row["source"] for row in rows if row["value"] == "incomplete"]
    assert f"{core} is cut short: 5000 of " in value


def test_a_vmlinux_that_is_given_goes_before_what_gdb_has(
    any_gdb: Gdb, modelled: Modelled
) -> None:
    core, path = modelled.core("vmcore"), str(modelled.vmlinux)
    lines = [f"i = inside.Inferior(files=[{path!r}])", "i.ask('summary')"]
    first, answer = opened(any_gdb, modelled, core, *lines, vmlinux=False)
    assert first.error is not None and "has no section .BTF" in first.error
    lines = [f"print(inside.open_inferior(files=[{str(core)!r}]).symbol('_stext'))"]
    (answer,) = opened(any_gdb, modelled, core, *lines)
    assert answer.error is None


def test_a_capsule_of_a_kdump_file_is_one_that_gdb_opens(
    any_gdb: Gdb, tmp_path: Path
) -> None:
    """As `vmemmap gdb` says when it is given a kdump file."""
    small_machine("four-level").write(tmp_path, kdump=True)
    dump = ["-c", str(tmp_path / "vmcore.kdump"), "-s", str(tmp_path / "vmlinux")]
    assert main([*dump, "capsule", str(tmp_path / "capsule")]) == 0
    kernel = open_dump(dump[1], [dump[3]])
    line = "i = inside.Inferior(); i.ask('hvo --folios')"
    answers = any_gdb.run(
        f"symbol-file {dump[3]}",
        f"core-file {tmp_path / 'capsule'}",
        "python from tests.gdb_door import inside",
        f"python {line}",
    )
    assert answers[-1].error is None, answers[-1].error
    assert json.loads(answers[-1].text) == ask(Kernel(kernel), "hvo --folios")
