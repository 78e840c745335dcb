# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every command line of the README and the docs does what it says it does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from vmemmap_tools.cli import main
from vmemmap_tools.model import spec

ROOT = Path(__file__).resolve().parents[1]
LINE = re.compile(r"^(?:    |\$ )(vmemmap(?: .*)?)$", re.MULTILINE)

NEEDS_A_MACHINE = ("vmemmap summary", "vmemmap --qemu")
"""Beginnings of the lines that read a running kernel or guest."""


def command_lines() -> list[str]:
    files = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [line for file in files for line in LINE.findall(file.read_text())]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("documented")
    spec.build(spec.load(spec.samples()["two-node"])).write(directory)
    return directory


def test_there_are_command_lines_to_try() -> None:
    assert len(command_lines()) >= 6


@pytest.mark.parametrize(
    "line", [x for x in command_lines() if not x.startswith(NEEDS_A_MACHINE)]
)
def test_a_documented_command_line_runs(
    line: str,
    sample: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(sample)
    text = re.sub(r"\$\(uname -r\)", "release", line)
    text = re.sub(r"-c \S+", "-c vmcore", re.sub(r"-s \S+", "-s vmlinux", text))
    assert main(shlex.split(text)[1:]) == 0, capsys.readouterr().err
    assert capsys.readouterr().out


def test_lines_that_need_a_machine_are_parsed() -> None:
    for line in command_lines():
        if line.startswith(NEEDS_A_MACHINE):
            assert main([*shlex.split(line)[1:], "--help"]) == 0
