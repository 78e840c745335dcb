# SPDX-License-Identifier: LGPL-2.1-or-later
"""A vmlinux without DWARF, as `strip -g` leaves it, in gdb or given to its commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gdb_door.runner import Answer, Gdb
from tests.tools import output
from vmemmap_tools.model.write import write_vmlinux

from .cores import VERBS, Modelled, small_machine, without_sources

Ask = Callable[..., "list[Answer]"]


@pytest.fixture(scope="module")
def modelled(tmp_path_factory: pytest.TempPathFactory) -> Modelled:
    found = Modelled(
        small_machine("four-level").image(), tmp_path_factory.mktemp("stripped")
    )
    write_vmlinux(found.image, found.directory / "vmlinux.g", is_stripped=True)
    for option in ("--discard-all", "--strip-all"):
        path = found.directory / f"vmlinux{option}"
        output("objcopy", option, found.directory / "vmlinux.g", path)
    return found


@pytest.fixture
def ask(any_gdb: Gdb, modelled: Modelled) -> Ask:
    """What lines of Python print, with the core open and one of the files loaded."""

    def opened(loaded: Path | None, *lines: str) -> list[Answer]:
        answers = any_gdb.run(
            f"symbol-file {loaded or ''}",
            f"core-file {modelled.core('vmcore')}",
            "python from tests.gdb_door import inside",
            *(f"python {line}" for line in lines),
        )
        return answers[3:]

    return opened


@pytest.mark.parametrize("is_loaded", [True, False])
def test_every_verb_answers_as_with_the_whole_file(
    ask: Ask, modelled: Modelled, is_loaded: bool
) -> None:
    path = modelled.directory / "vmlinux.g"
    given = f"files=[{str(path)!r}]"
    lines = [f"i = inside.Inferior({'' if is_loaded else given})"]
    lines += [f"i.ask({verb!r})" for verb in VERBS]
    first, *told = ask(path if is_loaded else None, *lines)
    assert first.error is None, first.error
    expected = modelled.answers("vmcore")
    for verb, answer in zip(VERBS, told):
        found = json.loads(answer.text)
        if verb == "info":
            facts = [(row["value"], row["source"]) for row in found["rows"]]
            assert ("BTF", f"{path} (.BTF)") in facts
            assert ("vmlinux", f"{path} (.symtab)") in facts
        assert without_sources(found) == without_sources(expected[verb]), verb


def test_a_part_of_the_symbols_is_refused(ask: Ask, modelled: Modelled) -> None:
    """No static variable is listed: it would seem that there is none."""
    path = modelled.directory / "vmlinux--discard-all"
    loaded, given = (
        ask(path, "inside.refusal()"),
        ask(None, f"inside.refusal(files=[{str(path)!r}])"),
    )
    lacks = f"{path} lists no static variables in its symbol table"
    assert loaded[0].text.startswith(f"{lacks}: give the whole vmlinux")
    assert f"({lacks}; VMCOREINFO does not say where kallsyms is)" in given[0].text


def test_symbols_come_from_the_file_that_has_them(ask: Ask, modelled: Modelled) -> None:
    """Types of one that has no symbols, symbols of the one that gdb has."""
    types = modelled.directory / "vmlinux--strip-all"
    lines = [f"i = inside.Inferior(files=[{str(types)!r}])", "i.ask('hvo --folios')"]
    first, answer = ask(modelled.vmlinux, *lines)
    assert first.error is None, first.error
    assert json.loads(answer.text) == modelled.answers("vmcore")["hvo --folios"]
    (alone,) = ask(None, f"inside.refusal(files=[{str(types)!r}])")
    assert f"{types} has no symbol table (.symtab)" in alone.text
    listed = modelled.directory / "System.map"
    listed.write_text(
        "".join(
            f"{symbol.address:016x} {'d' if symbol.static else 'D'} {name}\n"
            for name, symbol in modelled.image.symbols.items()
        )
    )
    lines = [f"i = inside.Inferior(files=[{str(types)!r}, {str(listed)!r}])", lines[1]]
    first, answer = ask(None, *lines)
    assert first.error is None, first.error
    assert json.loads(answer.text) == modelled.answers("vmcore")["hvo --folios"]
