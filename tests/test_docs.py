# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every command line of the README and the docs does what it says it does."""

from __future__ import annotations

import doctest
import re
import shlex
import subprocess
import sys
from pathlib import Path

import drgn
import pytest
from drgn.commands import run_command
from drgn.helpers.linux.mm import pfn_to_page

from tests.samples import open_with_drgn
from vmemmap_tools import drgn_helpers
from vmemmap_tools.cli import main
from vmemmap_tools.model import spec

ROOT = Path(__file__).resolve().parents[1]
LINE = re.compile(r"^(?:    |\$ )(vmemmap(?: .*)?)$", re.MULTILINE)

NEEDS_A_MACHINE = ("vmemmap summary", "vmemmap watch", "vmemmap --qemu")
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
    for written in sample.glob("small.*"):
        written.unlink()  # by another line
    text = re.sub(r"\$\(uname -r\)", "release", line)
    text = re.sub(r"-c \S+", "-c vmcore", re.sub(r"-s \S+", "-s vmlinux", text))
    assert main(shlex.split(text)[1:]) == 0, capsys.readouterr().err
    assert capsys.readouterr().out


DRGN_LINE = re.compile(r"^    (%vmemmap(?: .*)?|drgn -c .*contrib/.*)$", re.MULTILINE)


def drgn_lines() -> list[str]:
    files = (ROOT / "README.md", ROOT / "docs" / "drgn.md")
    return [line for file in files for line in DRGN_LINE.findall(file.read_text())]


def test_a_documented_drgn_session_prints_what_it_says(sample: Path) -> None:
    """The ``>>>`` lines of the page, as one session."""
    prog = open_with_drgn(str(sample / "vmcore"), str(sample / "vmlinux"))
    drgn.set_default_prog(prog)
    text = (ROOT / "docs" / "drgn.md").read_text()
    text = text.replace("    %vmemmap page page\n", "", 1)
    names = {n: getattr(drgn_helpers, n) for n in drgn_helpers.__all__}
    test = doctest.DocTestParser().get_doctest(text, names, "drgn.md", None, 0)
    assert len(test.examples) >= 9
    reports: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=reports.append)
    assert not reports, "".join(reports)


@pytest.mark.parametrize("line", drgn_lines())
def test_a_documented_drgn_line_runs(
    line: str,
    sample: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(sample)
    if line.startswith("drgn"):
        line = line.replace("contrib/", f"{ROOT}/contrib/")
        words = [f"{Path(sys.executable).parent}/drgn", *shlex.split(line)[1:]]
        assert subprocess.run(words, check=True, capture_output=True).stdout
        return
    prog = open_with_drgn("vmcore", "vmlinux")
    page = pfn_to_page(prog, 0x140123)
    run_command(prog, line[1:], globals={"page": page})
    printed = capfd.readouterr().out
    _, is_redirected, name = line.partition(" > ")
    assert (sample / name).read_text() if is_redirected else printed


def test_the_page_names_every_helper_and_every_script() -> None:
    text = (ROOT / "docs" / "drgn.md").read_text()
    helpers = [n for n in drgn_helpers.__all__ if not n[0].isupper()]
    scripts = [f"contrib/{path.name}" for path in (ROOT / "contrib").glob("*.py")]
    assert len(scripts) == 5
    for name in [*(f"`{helper}`" for helper in helpers), *scripts]:
        assert name in text, name


def test_lines_that_need_a_machine_are_parsed() -> None:
    for line in command_lines():
        if line.startswith(NEEDS_A_MACHINE):
            assert main([*shlex.split(line)[1:], "--help"]) == 0
