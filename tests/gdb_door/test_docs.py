# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every line of the gdb pages that a user would type does what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.samples import build_sample

from .door import ask
from .runner import TOP, Answer, Gdb

LINE = re.compile(r"^    \(gdb\) (.*)$", re.MULTILINE)
NEEDS_A_FRAME = ("vmemmap page page", "vmemmap page &folio->page")
"""Lines about local variables: tried where a frame has some (test_local_variables)."""
SILENT = re.compile(r"> \S+$")


def lines() -> list[str]:
    pages = (TOP / "docs" / name for name in ("gdb.md", "gdb-lx.md"))
    return [line for page in pages for line in LINE.findall(page.read_text())]


@pytest.fixture(scope="module")
def answers(
    any_gdb: Gdb, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Answer]:
    """What each line answers, in a session on the sample that the docs speak of."""
    sample = build_sample("two-node", tmp_path_factory.mktemp("documented"))
    typed = [line for line in dict.fromkeys(lines()) if line not in NEEDS_A_FRAME]
    # kaslr --apply changes what later lines see; it comes last.
    typed.sort(key=lambda line: "--apply" in line)
    here = f"cd {sample.directory}"
    told = ask(any_gdb, sample.core, sample.vmlinux, here, *typed)
    return dict(zip(typed, told[1:]))


def test_there_are_lines_to_try() -> None:
    assert len(lines()) >= 25


@pytest.mark.parametrize(
    "line", [x for x in dict.fromkeys(lines()) if x not in NEEDS_A_FRAME]
)
def test_a_documented_line_runs(line: str, answers: dict[str, Answer]) -> None:
    answer = answers[line]
    assert answer.error is None
    assert answer.text or SILENT.search(line)


def test_every_old_bug_is_spoken_of_and_tested() -> None:
    page = (TOP / "docs" / "gdb-lx.md").read_text()
    tests = "".join(p.read_text() for p in Path(__file__).parent.glob("test_*.py"))
    for number in range(1, 21):
        assert f"| B{number} |" in page
        assert f"def test_b{number}_" in tests, f"B{number} has no test"
