# SPDX-License-Identifier: LGPL-2.1-or-later
"""A vmlinux of which ``strip -g`` left BTF and symbols answers as the whole one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bounded import EVERY_VERB
from tests.model.kernels import small, varied
from tests.tools import output
from vmemmap_tools.cli import main
from vmemmap_tools.formats.elf import Elf
from vmemmap_tools.model.write import write_vmcore_kdump, write_vmlinux
from vmemmap_tools.target.base import TargetError
from vmemmap_tools.target.drgn_open import open_dump
from vmemmap_tools.target.providers import compose

from .machines import Described, MemoryWithTables

SOURCES = ("types", "symbols", "KASLR offset")
"""Rows of `info` that tell one file from the other."""


class Stripped(Described):
    """A machine's dump, moved by KASLR, with a vmlinux of each kind."""

    def __init__(self, generation: str, build: Callable[..., Any] = small):
        super().__init__(build(generation, kaslr=11))
        assert self.kaslr_offset
        self.core, self.full = self.path / "vmcore", self.path / "vmlinux"
        self.stripped = self.path / "vmlinux.g"
        write_vmlinux(self.image, self.stripped, is_stripped=True)
        self.kdump = self.path / "vmcore.kdump"
        write_vmcore_kdump(self.image, self.kdump)


def lines_of(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows of `info` that do not name the file they come from."""
    return [row for row in rows if row["subject"] not in SOURCES]


@pytest.fixture(scope="module", params=["5.18", "6.12", "7.3"])
def machine(request: pytest.FixtureRequest) -> Stripped:
    return Stripped(request.param, varied)


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Stripped:
    """A machine to be refused."""
    return Stripped("7.3")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
    status = main(["--format", "json", *words])
    out, err = capsys.readouterr()
    return status, json.loads(out) if out else None, err


@pytest.mark.parametrize("words", EVERY_VERB, ids=" ".join)
@pytest.mark.parametrize("form", ["core", "kdump"])
def test_every_verb_answers_as_with_the_whole_file(
    machine: Stripped,
    form: str,
    words: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    core = str(getattr(machine, form))
    known = run(capsys, "-c", core, "-s", str(machine.full), *words)
    ours = run(capsys, "-c", core, "-s", str(machine.stripped), *words)
    assert known[0] == 0 and known[1]
    if words == ("info",):
        for _, answer, _ in (known, ours):
            answer["rows"] = lines_of(answer["rows"])
    assert ours == known


def test_info_tells_where_types_and_symbols_come_from(
    machine: Stripped, capsys: pytest.CaptureFixture[str]
) -> None:
    path, core = machine.stripped, str(machine.core)
    with Elf(path) as elf:
        assert elf.section_bytes(".debug_info") is None
    _, answer, _ = run(capsys, "-c", core, "-s", str(path), "info")
    told = [(row["subject"], row["value"], row["source"]) for row in answer["rows"]]
    offset = f"{machine.kaslr_offset:#x}"
    how = "VMCOREINFO SYMBOL(_stext); banner verified"
    assert ("types", "BTF", f"{path} (.BTF)") in told
    assert ("symbols", "vmlinux", f"{path} (.symtab)") in told
    assert [row for row in told if row[0] == SOURCES[2]] == [(SOURCES[2], offset, how)]


def test_symbols_serve_where_types_come_from_elsewhere(
    machine: Stripped, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole vmlinux too, where its DWARF is not asked for."""
    btf = machine.path / "own.btf"
    btf.write_bytes(machine.btf)
    opening = ["-c", str(machine.core), "-s", str(machine.full)]
    known = run(capsys, *opening, "summary")
    ours = run(capsys, *opening, "-s", str(btf), "--types", "btf", "summary")
    assert ours == known
    bare = run(capsys, *opening, "--types", "vmcoreinfo", "info")[1]
    assert f"{machine.full} (.symtab)" in [row["source"] for row in bare["rows"]]


def objcopy(machine: Stripped, option: str) -> str:
    path = machine.path / f"vmlinux{option}"
    output("objcopy", option, machine.stripped, path)
    return str(path)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--strip-all", "has no symbol table (.symtab)"),
        ("--discard-all", "lists no static variables in its symbol table"),
        ("--strip-symbol=init_uts_ns", "lists no init_uts_ns in its symbol table"),
        ("--strip-symbol=_end", "lists no _end in its symbol table"),
    ],
)
def test_a_part_of_the_symbols_does_not_serve(
    little: Stripped, option: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = objcopy(little, option)
    opening = ("-c", str(little.core), "-s", path)
    status, answer, complaint = run(capsys, *opening, "summary")
    assert (status, answer, complaint.count("\n")) == (2, None, 1)
    assert f"({path} {says}; " in complaint
    assert "give System.map or a copy of /proc/kallsyms with -s as well" in complaint
    symbols = little.path / "System.map"
    symbols.write_bytes(little.symbol_list(-little.kaslr_offset))
    both = run(capsys, *opening, "-s", str(symbols), "summary")
    assert both == run(capsys, *opening[:3], str(little.full), "summary")


def test_a_file_without_symbols_is_read_with_kallsyms(little: Stripped) -> None:
    memory = MemoryWithTables(little.memory, little.tables)
    target = compose(memory, [objcopy(little, "--strip-all")])
    assert [e.value for e in target.symbols.evidence()] == ["kallsyms", "VMCOREINFO"]
    target = compose(memory, [str(little.stripped)])
    assert target.symbols.evidence()[0].value == "vmlinux"


def test_a_file_that_was_cut_short_is_refused(
    little: Stripped, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, whole = tmp_path / "vmlinux", little.stripped.read_bytes()
    for length in (len(whole) - 1, len(whole) // 2):
        path.write_bytes(whole[:length])
        opening = ("-c", str(little.core), "-s", str(path))
        status, answer, complaint = run(capsys, *opening, "summary")
        assert (status, answer) == (2, None)
        assert complaint.startswith(f"vmemmap: {path} is not a vmlinux (file ends at ")
        assert complaint.count("\n") == 1


class Build:
    """VMCOREINFO as a kernel of another build would have it."""

    def __init__(self, machine: Stripped, folder: Path):
        self.note = "".join(f"{k}={v}\n" for k, v in machine.memory.vmcoreinfo.items())
        self.path = folder / "note"

    def options(
        self, pattern: str, change: Callable[[re.Match[str]], str]
    ) -> list[str]:
        text, count = re.subn(pattern, change, self.note)
        assert count
        self.path.write_text(text)
        return ["--vmcoreinfo", str(self.path)]


@pytest.mark.parametrize("types", ["auto", "vmcoreinfo"])
def test_the_file_of_another_build_is_refused(
    little: Stripped, types: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opening = ["-c", str(little.core), "-s", str(little.stripped), "--types", types]
    build = Build(little, tmp_path)

    def refusal(*options: str) -> str:
        status, answer, complaint = run(capsys, *opening, *options, "summary")
        assert (status, answer, complaint.count("\n")) == (2, None, 1)
        return complaint

    other = build.options(r"(BUILD-ID=)\w{4}", lambda found: found[1] + "0000")
    assert "is of another build than the kernel: build-id" in refusal(*other)
    moved = build.options(
        r"(SYMBOL\(init_uts_ns\)=)(\w+)",
        lambda found: f"{found[1]}{int(found[2], 16) + 64:x}",
    )
    assert "its symbols are not as far from each other" in refusal(*moved)
    everything = build.options(
        r"((?:_stext|init_uts_ns|swapper_pg_dir|node_online_map|prb)\)=)(\w+)",
        lambda found: f"{found[1]}{int(found[2], 16) + 0x1000:x}",
    )
    assert "its banner is not where VMCOREINFO has it" in refusal(*everything)


def test_without_debug_info_and_btf_a_file_has_symbols_alone(tmp_path: Path) -> None:
    machine = Stripped("7.3")
    bare = tmp_path / "vmlinux"
    bare.write_bytes(machine.stripped.read_bytes().replace(b".BTF\0", b".XTF\0"))
    with pytest.raises(TargetError, match="neither debug info nor BTF"):
        open_dump(str(machine.core), [str(bare)])
    assert open_dump(str(machine.core), [str(bare)], types="vmcoreinfo")
