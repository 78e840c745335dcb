# SPDX-License-Identifier: LGPL-2.1-or-later
"""With BTF gdb is asked for no type, and reads none of the DWARF that it has."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.target.gdb.cores import VERBS, small_machine
from tests.target.machines import Described

from .door import ask
from .runner import Gdb

COUNTED = (
    "lookup_type",
    "lookup_symbol",
    "lookup_global_symbol",
    "lookup_static_symbol",
    "lookup_static_symbols",
    "parse_and_eval",
)
WATCH = f"""python import json
asked = []
def watched(name):
    real = getattr(gdb, name)
    def call(*words, **named):
        asked.append((name, *map(str, words)))
        return real(*words, **named)
    setattr(gdb, name, call)
for name in {COUNTED}:
    watched(name)
from vmemmap_tools.target.gdb_types import Names
by_name = Names.symbol
Names.symbol = lambda names, *words: asked.append(words) or by_name(names, *words)
"""
READ = "maint info symtabs"
"""Lists the compilation units that gdb has read so far."""


@dataclass(frozen=True)
class Told:
    """What verbs answered, what gdb was asked for meanwhile, and what it has read."""

    answers: list[str]
    asked: list[str]
    before: str
    after: str


def told(gdb: Gdb, described: Described, btf: Path, types: str) -> Told:
    core, vmlinux = described.path / "vmcore", described.path / "vmlinux"
    commands = [f"vmemmap --format json {verb}" for verb in VERBS]
    _, _, _, before, *answers, after, asked = ask(
        gdb,
        core,
        vmlinux,
        f"set vmemmap types {types}",
        f"set vmemmap symbols {btf}",
        WATCH,
        READ,
        *commands,
        READ,
        "python print(json.dumps(asked))",
    )
    for command, answer in zip(commands, answers):
        assert answer.error is None, f"{command}: {answer.error}"
    texts = [answer.text for answer in answers]
    return Told(texts, json.loads(asked.text), before.text, after.text)


@pytest.fixture(scope="module")
def described() -> Described:
    return Described(small_machine("four-level"))


def test_no_type_is_looked_up_with_btf(
    gdb: Gdb, described: Described, tmp_path: Path
) -> None:
    btf = tmp_path / "vmlinux.btf"
    btf.write_bytes(described.btf)
    by_btf = told(gdb, described, btf, "btf")
    assert by_btf.asked == []
    assert by_btf.after == by_btf.before
    assert "types" in by_btf.answers[0] and str(btf) in by_btf.answers[0]
    by_dwarf = told(gdb, described, btf, "dwarf")
    assert by_dwarf.asked != [] and by_dwarf.after != by_dwarf.before
    assert by_dwarf.answers[1:] == by_btf.answers[1:]
