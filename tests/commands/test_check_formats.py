# SPDX-License-Identifier: LGPL-2.1-or-later
"""--format before the verb: what only `check` can print is refused for the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.model.kernels import varied
from vmemmap_tools.cli import main


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    directory: Path = tmp_path_factory.mktemp("dump")
    varied("7.3").write(directory)
    return ["-c", str(directory / "vmcore"), "-s", str(directory / "vmlinux")]


def test_sarif_is_understood_before_and_after_check(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--format", "sarif", "check", "--quick"]) == 0
    before = capsys.readouterr().out
    assert main([*words, "check", "--quick", "--format", "sarif"]) == 0
    assert before == capsys.readouterr().out
    assert json.loads(before)["version"] == "2.1.0"


@pytest.mark.parametrize("verb", ["hvo", "model", "watch", None])
@pytest.mark.parametrize("format", ["sarif", "junit"])
def test_other_verbs_say_that_they_have_no_such_form(
    verb: str | None, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--format", format, *([verb] if verb else [])]) == 2
    out, err = capsys.readouterr()
    name = verb or "summary"
    assert out == ""
    assert err == (
        f"vmemmap: {name} has no {format} form: only check has (see 'vmemmap --help')\n"
    )
