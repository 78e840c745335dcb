# SPDX-License-Identifier: LGPL-2.1-or-later
"""``--types``: each verb by each source gives the same answer, or refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.bounded import EVERY_VERB
from tests.model.kernels import varied
from tests.sweep.compare import compare
from vmemmap_tools.cli import main

from .machines import Described

"""By VMCOREINFO runs of devices merge with their neighbours."""
EVIDENCE = ("info",)
"""The verb that says where facts come from, and so differs."""

Answered = tuple[int, Any, list[str]]


@pytest.fixture(scope="module", params=["6.1", "6.12", "7.3"])
def machine(request: pytest.FixtureRequest) -> Described:
    described = Described(varied(request.param))
    (described.path / "own.btf").write_bytes(described.btf)
    moved = described.symbol_list(-described.kaslr_offset)
    (described.path / "System.map").write_bytes(moved)
    return described


def run(
    capsys: pytest.CaptureFixture[str], machine: Described, line: str, *words: str
) -> Answered:
    """(status, answer, complaint); file names are those of the machine's directory."""
    options = line.replace("@", f"{machine.path}/").split()
    core = str(machine.path / "vmcore")
    status = main(["-c", core, *options, "--format", "json", *words])
    out, err = capsys.readouterr()
    return status, json.loads(out) if out else None, err.splitlines()


@pytest.mark.parametrize("words", EVERY_VERB, ids=" ".join)
def test_each_verb_by_each_source(
    machine: Described, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    known = run(capsys, machine, "-s @vmlinux --types dwarf", *words)
    assert known[0] == 0 and known == run(capsys, machine, "-s @vmlinux", *words)
    btf = run(capsys, machine, "-s @own.btf -s @System.map --types btf", *words)
    bare = run(capsys, machine, "--types vmcoreinfo", *words)
    if words == EVIDENCE:
        assert {btf[0], bare[0]} == {0}
        return
    assert btf == known
    if words[0] == "check":
        status, answer, (line,) = bare
        assert (status, answer) == (2, None) and "needs the kernel's types" in line
        return
    assert (bare[0], bare[2]) == (0, [])
    assert known[1] is not None and bare[1] is not None
    assert list(compare(words[0], known[1], bare[1], "--leaves" in words)) == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--types dwarf", "no debug info found"),
        ("-s @own.btf --types dwarf", "is BTF, not DWARF"),
        ("-s @System.map --types dwarf", "no debug info found"),
        ("--types btf", "no BTF found"),
        ("-s @vmlinux --types btf", "vmlinux has no section .BTF"),
        ("-s @own.btf --types btf", "has no addresses"),
    ],
)
def test_a_source_that_is_not_there_is_refused(
    machine: Described, line: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, answer, complaint = run(capsys, machine, line, "summary")
    assert (status, answer, len(complaint)) == (2, None, 1)
    assert says in complaint[0]
