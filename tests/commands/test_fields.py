# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/exit-codes-and-json.md names each field of the answers, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.analysis.machines import busy, dax
from vmemmap_tools.commands import VERBS
from vmemmap_tools.kernel.kernel import Kernel

from .asking import ask

DOCS = Path(__file__).resolve().parents[2] / "docs" / "exit-codes-and-json.md"
CELL = re.compile(r"`([a-z_.0-9]+)`")

OWN_FIELDS = {
    *("evidence", "expected", "found"),
    *("known_issues", "unknown_parts", "reasons", "rules.unread"),
}
"""Objects whose fields are not told: they depend on what was found."""

STALE = 0x8440
PAGES = [f"pfn:{STALE}", "pfn:0x8005", "pfn:0x100001", "0xffffea0000201900"]
PAGES.append("va:0x1000")
QUESTIONS = {
    "summary rows": ["summary"],
    "info rows": ["info"],
    "sections rows": ["sections"],
    "zones rows": ["zones"],
    "page rows": ["page", *PAGES],
    "walk rows": ["walk", "0xffffea0000201900"],
    "map rows": ["map"],
    "map rows of leaves": ["map", "--leaves"],
    "hvo rows": ["hvo"],
    "hvo rows of folios": ["hvo", "--folios"],
    "dax rows": ["dax"],
    "check rows": ["check"],
}


def documented() -> dict[str, set[str]]:
    """{"VERB part": names in the first column of the table of that heading}"""
    tables: dict[str, set[str]] = {}
    verb = part = ""
    for line in DOCS.read_text().splitlines():
        if line.startswith("#"):
            heading = re.fullmatch(r"### `([a-z]+)`", line)
            verb, part = heading[1] if heading else "", ""
        elif verb and re.fullmatch(r"\| (rows|totals)[a-z ]* \| \|", line):
            part = f"{verb} {line.strip('| ')}"
            tables[part] = set()
        elif part and line.startswith("| `"):
            tables[part] |= set(CELL.findall(line.split("|")[1]))
    return tables


def paths(value: Any, prefix: str = "") -> Iterator[str]:
    """The fields of an answer, `a.b` for those of objects and of objects in lists."""
    if isinstance(value, list):
        for item in value:
            yield from paths(item, prefix)
    elif isinstance(value, dict):
        for name, inner in value.items():
            path = f"{prefix}.{name}" if prefix else name
            yield path
            if path not in OWN_FIELDS:
                yield from paths(inner, path)


def frames(kernel: Kernel) -> list[str]:
    """Pages that are shared tail pages."""
    zones = ask(kernel, "zones")["rows"]
    return [f"pfn:{tail['pfn']}" for zone in zones for tail in zone["tails"]]


def without_groups(names: set[str], documented: set[str]) -> set[str]:
    """Less the objects that only their fields tell of, as where.kind and where.id."""
    return {
        name
        for name in names
        if name in documented or not any(d.startswith(f"{name}.") for d in documented)
    }


@pytest.fixture(scope="module")
def kernels() -> list[Kernel]:
    """Machines that have between them all that the verbs can tell."""
    damaged = busy()
    damaged.memory.lose(damaged.frame(512))
    damaged.set_page(STALE, flags=1 << 6)  # PG_head where a tail should be
    return [
        busy().kernel(),
        dax(form=None, altmap=(0x100000, 16, 4096, 512)).kernel(),
        damaged.kernel(),
    ]


def test_every_verb_has_its_tables() -> None:
    rows = {part.split()[0] for part in documented() if "rows" in part}
    assert {part.split()[0] for part in QUESTIONS} == set(VERBS)
    assert rows == {*VERBS, "capsule"}  # of the command line's own: tests/capsule


@pytest.mark.parametrize("part", QUESTIONS)
def test_the_rows_have_the_documented_fields(kernels: list[Kernel], part: str) -> None:
    names = documented()[part]
    found: set[str] = set()
    for kernel in kernels:
        words = [*QUESTIONS[part], *(frames(kernel) if part == "page rows" else ())]
        found |= set(paths(ask(kernel, *words)["rows"]))
    assert without_groups(found, names) == names


@pytest.mark.parametrize("verb", VERBS)
def test_the_totals_have_the_documented_fields(
    kernels: list[Kernel], verb: str
) -> None:
    names = documented().get(f"{verb} totals", set())
    words = {"page": PAGES[:1], "walk": ["0xffffea0000201900"]}.get(verb, [])
    found: set[str] = set()
    for kernel in kernels:
        found |= set(paths(ask(kernel, verb, *words)["totals"]))
    assert without_groups(found, names) == names
