# SPDX-License-Identifier: LGPL-2.1-or-later
"""A capsule answers as its original, without a vmlinux, and holds nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import drgn
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vmemmap_tools.cli import main
from vmemmap_tools.model import spec
from vmemmap_tools.target.base import Fault, TargetError
from vmemmap_tools.target.drgn_open import open_dump
from vmemmap_tools.target.dump_files import inspect_dump

from .made import make_capsule

VERBS = (
    "summary",
    "sections",
    "zones --all",
    "map",
    "map --leaves",
    "hvo --folios",
    "dax",
    "check",
    "page pfn:0x100000",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("capsule")
    spec.build(spec.load(spec.samples()["two-node"])).write(directory)
    make_capsule(directory, "elf")
    make_capsule(directory, "kdump", "--kdump")
    return directory


def ask(capsys: pytest.CaptureFixture[str], words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["--format", "json", *words.split()]) in (0, 1)
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


@pytest.fixture(scope="module")
def five_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("five-level")
    spec.build(spec.load(spec.samples()["five-level"])).write(directory, kdump=True)
    make_capsule(directory, "elf")
    make_capsule(directory, "kdump", "--kdump")
    return directory


@pytest.mark.parametrize("form", ["elf", "kdump"])
@pytest.mark.parametrize("original", ["vmcore", "vmcore.kdump"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_capsule_of_five_levels_answers_as_either_form_of_its_original(
    five_level: Path,
    form: str,
    original: str,
    verb: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    vmlinux = five_level / "vmlinux"
    answer = ask(capsys, f"-c {five_level}/{original} -s {vmlinux} {verb}")
    assert answer["kernel"]["levels"] == 5
    assert ask(capsys, f"-c {five_level}/{form} {verb}") == answer


@pytest.mark.parametrize("form", ["elf", "kdump"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_answers_as_on_the_original(
    folder: Path, form: str, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    original = ask(capsys, f"-c {folder}/vmcore -s {folder}/vmlinux {verb}")
    assert ask(capsys, f"-c {folder}/{form} {verb}") == original


@pytest.mark.parametrize("form", ["elf", "kdump"])
def test_what_is_not_carried_faults(folder: Path, form: str) -> None:
    target = open_dump(str(folder / form))
    original = open_dump(str(folder / "vmcore"), [str(folder / "vmlinux")])
    extents = inspect_dump(str(folder / form)).segments
    assert extents is not None
    held = [e for e in extents.extents if e.present]
    gaps = [(a.end, b.start) for a, b in zip(held, held[1:]) if a.end < b.start]
    assert gaps
    for start, _ in gaps:
        with pytest.raises(Fault):
            target.read_physical(start, 1)
    for extent in held:
        size = min(extent.end - extent.start, 4096)
        ours = target.read_physical(extent.start, size)
        assert ours == original.read_physical(extent.start, size)


def test_drgn_opens_it(folder: Path) -> None:
    prog = drgn.program_from_core_dump(str(folder / "elf"))
    assert prog.flags & drgn.ProgramFlags.IS_LINUX_KERNEL


def test_the_audit_names_every_page_and_why(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = ask(capsys, f"-c {folder}/vmcore -s {folder}/vmlinux capsule --list")
    assert len(answer["rows"]) == answer["totals"]["pages"]
    assert sum(row["bytes"] for row in answer["rows"]) == answer["totals"]["bytes"]
    assert all(row["kinds"] and row["reason"] for row in answer["rows"])
    segments = inspect_dump(str(folder / "elf")).segments
    assert segments is not None
    held = {
        pfn
        for e in segments.extents
        for pfn in range(e.start >> 12, (e.end - 1 >> 12) + 1)
    }
    assert held == {row["pfn"] for row in answer["rows"] if row["ranges"]}
    assert sum(row["words"] for row in answer["rows"]) == answer["totals"]["words"]


def test_without_struct_pages_sections_and_map_still_answer(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = f"-c {folder}/vmcore -s {folder}/vmlinux"
    assert main([*whole.split(), "capsule", f"{folder}/bare", "--no-struct-pages"]) == 0
    for verb in ("zones --all", "map --leaves"):
        ours = ask(capsys, f"-c {folder}/bare {verb}")
        assert ours == ask(capsys, f"{whole} {verb}")
    assert ask(capsys, f"-c {folder}/bare hvo")["missing"]


@pytest.mark.parametrize("form", ["elf", "kdump"])
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_flipped_bit_or_a_cut_is_refused(
    folder: Path, form: str, data: st.DataObject
) -> None:
    content = bytearray((folder / form).read_bytes())
    at = data.draw(
        st.one_of(
            st.integers(0, len(content) - 1), st.integers(0, min(16384, len(content)))
        )
    )
    if data.draw(st.booleans()):
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[at:]
    damaged = folder / f"{form}.damaged"
    damaged.write_bytes(content)
    with pytest.raises(TargetError) as error:
        open_dump(str(damaged))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("form", ["elf", "kdump"])
def test_a_flipped_bit_in_its_mark_makes_no_other_dump_of_it(
    folder: Path, form: str, tmp_path: Path
) -> None:
    content = bytearray((folder / form).read_bytes())
    content[content.index(b"vmemmap capsule\n")] ^= 1
    damaged = tmp_path / "damaged"
    damaged.write_bytes(content)
    with pytest.raises(TargetError, match="is a damaged capsule"):
        open_dump(str(damaged))


@pytest.mark.parametrize("name", ["vmcore", "vmlinux"])
def test_a_capsule_never_replaces_what_it_is_made_from(
    folder: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder / name)
    before = (folder / name).stat()
    opening = ["-c", str(folder / "vmcore"), "-s", str(folder / "vmlinux")]
    for out in (folder / name, link):
        assert main([*opening, "capsule", str(out)]) == 2
        assert "name another" in capsys.readouterr().err
    after = (folder / name).stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)


def test_what_cannot_be_written_is_refused_before_the_capture(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    opening = ["-c", str(folder / "vmcore"), "-s", str(folder / "vmlinux")]
    for out in (fifo, tmp_path / "nowhere" / "capsule"):
        assert main([*opening, "capsule", str(out)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert fifo.is_fifo()


def test_a_capsule_refuses_types_that_are_not_in_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsule = str(folder / "elf")
    assert main(["-c", capsule, "--types", "vmcoreinfo", "summary"]) == 2
    assert "leave out --types" in capsys.readouterr().err
    assert main(["-c", capsule, "capsule", str(tmp_path / "again")]) == 2
    assert "a capsule already" in capsys.readouterr().err


def test_writing_one_prints_totals_and_no_empty_table(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opening = ["-c", str(folder / "vmcore"), "-s", str(folder / "vmlinux")]
    capsys.readouterr()
    assert main([*opening, "capsule", str(tmp_path / "one")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Pages carried")
    assert main([*opening, "--format", "csv", "capsule", str(tmp_path / "two")]) == 0
    assert capsys.readouterr().out == ""
