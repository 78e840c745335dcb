# SPDX-License-Identifier: LGPL-2.1-or-later
"""``--types`` on a capsule: it brings its own, or takes those of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bounded import EVERY_VERB
from tests.model.kernels import small
from tests.target.machines import Described
from vmemmap_tools.cli import main
from vmemmap_tools.model.write import write_vmlinux

from .made import make_capsule

SOURCES = ("memory", "types", "symbols", "KASLR offset")
"""Rows of `info` that say where facts come from."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("types")
    machine = small("7.3").hugetlb_alloc("2M", 8)
    machine.write(folder)
    make_capsule(folder)
    (folder / "own.btf").write_bytes(Described(machine).btf)
    write_vmlinux(machine.image(), folder / "vmlinux.g", is_stripped=True)
    (folder / "other.btf").write_bytes(Described(small("6.12")).btf)
    return folder


def ask(
    capsys: pytest.CaptureFixture[str], folder: Path, line: str, *words: str
) -> Any:
    options = line.replace("@", f"{folder}/").split()
    core = str(folder / "capsule")
    assert main(["-c", core, *options, "--format", "json", *words]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("words", EVERY_VERB, ids=" ".join)
@pytest.mark.parametrize(
    "line", ["-s @own.btf", "-s @own.btf --types btf", "-s @vmlinux.g"]
)
def test_btf_of_a_file_answers_as_the_capsule_alone(
    folder: Path, words: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, its = ask(capsys, folder, "", *words), ask(capsys, folder, line, *words)
    if words == ("info",):
        ours["rows"] = [r for r in ours["rows"] if r["subject"] not in SOURCES]
        its["rows"] = [r for r in its["rows"] if r["subject"] not in SOURCES]
    assert its == ours


def test_a_vmlinux_answers_as_the_capsule_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "-s @vmlinux --types dwarf"
    assert ask(capsys, folder, line, "hvo") == ask(capsys, folder, "", "hvo")


def test_a_symbol_that_the_capsule_does_not_know_is_told_by_a_vmlinux(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("walk", "devices_kset")
    assert main(["-c", str(folder / "capsule"), *words]) == 2
    assert "does not say about devices_kset" in capsys.readouterr().err
    known = ask(capsys, folder, "-s @vmlinux", *words)
    assert ask(capsys, folder, "-s @vmlinux.g", *words) == known


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--types btf", "a capsule brings the types it was made with"),
        ("--types vmcoreinfo", "a capsule brings the types it was made with"),
        ("--types vmcoreinfo -s @own.btf", "a capsule brings the types it was made"),
        ("--types dwarf", "no debug info found"),
        ("--types dwarf -s @own.btf", "is BTF, not DWARF"),
        ("-s @other.btf", "is the BTF of another build"),
    ],
)
def test_others_are_refused_in_one_line(
    folder: Path, line: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = line.replace("@", f"{folder}/").split()
    assert main(["-c", str(folder / "capsule"), *options, "summary"]) == 2
    (complaint,) = capsys.readouterr().err.splitlines()
    assert says in complaint
