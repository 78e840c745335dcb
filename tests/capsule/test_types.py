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

from .made import make_capsule


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("types")
    machine = small("7.3").hugetlb_alloc("2M", 8)
    machine.write(folder)
    make_capsule(folder)
    (folder / "own.btf").write_bytes(Described(machine).btf)
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
@pytest.mark.parametrize("line", ["-s @own.btf", "-s @own.btf --types btf"])
def test_btf_of_a_file_answers_as_the_capsule_alone(
    folder: Path, words: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, its = ask(capsys, folder, "", *words), ask(capsys, folder, line, *words)
    if words == ("info",):
        ours["rows"] = [r for r in ours["rows"] if r["subject"] != "types"]
        its["rows"] = [r for r in its["rows"] if r["subject"] != "types"]
    assert its == ours


def test_a_vmlinux_answers_as_the_capsule_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "-s @vmlinux --types dwarf"
    assert ask(capsys, folder, line, "hvo") == ask(capsys, folder, "", "hvo")


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
