# SPDX-License-Identifier: LGPL-2.1-or-later
"""Capsules without struct pages: which verbs still answer, and that the rest is null.

The table in docs/capsules.md says the same; symbols of any capsule are asked here too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.model.kernels import varied
from vmemmap_tools.cli import main

from .made import make_capsule

WHOLE = (
    "zones --all",
    "map --leaves",
    "walk 0xffffea0005004000",
    "walk 0xffffea0000000000",
)
"""What answers in full."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bare")
    varied("7.3").write(directory)
    make_capsule(directory, "bare", "--no-struct-pages")
    return directory


class Asked:
    """The original and the capsule, asked the same."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]):
        self.folder, self.capsys = folder, capsys

    def whole(self, verb: str) -> dict[str, Any]:
        return self._ask(f"-c {self.folder}/vmcore -s {self.folder}/vmlinux {verb}")

    def bare(self, verb: str) -> dict[str, Any]:
        return self._ask(f"-c {self.folder}/bare {verb}")

    def _ask(self, words: str) -> dict[str, Any]:
        self.capsys.readouterr()
        assert main(["--format", "json", *words.split()]) in (0, 1)
        answer: dict[str, Any] = json.loads(self.capsys.readouterr().out)
        return answer


@pytest.fixture
def asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> Asked:
    return Asked(folder, capsys)


@pytest.mark.parametrize("verb", WHOLE)
def test_what_needs_no_struct_page_answers_in_full(asked: Asked, verb: str) -> None:
    assert asked.bare(verb) == asked.whole(verb)


def test_info_knows_the_same(asked: Asked) -> None:
    facts = [
        {r["subject"]: r["value"] for r in a["rows"]}
        for a in (asked.bare("info"), asked.whole("info"))
    ]
    told = {k for k in facts[1] if facts[0].get(k) != facts[1][k]}
    assert told <= {"memory", "types", "symbols"}


@pytest.mark.parametrize(
    ("verb", "fields"),
    [
        ("sections", {"node", "zone", "self_hosted"}),
        ("dax", {"node", "zone"}),
    ],
)
def test_nodes_and_zones_of_struct_pages_are_null(
    asked: Asked, verb: str, fields: set[str]
) -> None:
    bare, whole = asked.bare(verb), asked.whole(verb)
    assert len(bare["rows"]) == len(whole["rows"]) > 0
    wrong = [
        (key, ours[key], its[key])
        for ours, its in zip(bare["rows"], whole["rows"])
        for key in its
        if ours[key] != its[key] and (key not in fields or ours[key] is not None)
    ]
    assert wrong == []
    assert any(row["node"] is None for row in bare["rows"]) and bare["missing"]
    assert bare["totals"] == whole["totals"]


def test_a_choice_by_what_is_null_has_no_total(asked: Asked) -> None:
    assert asked.bare("sections --node 0")["totals"] == {"sections": None}


@pytest.mark.parametrize("verb", ["summary", "hvo", "hvo --folios"])
def test_totals_of_huge_pages_are_unknown_and_others_true(
    asked: Asked, verb: str
) -> None:
    bare, whole = asked.bare(verb)["totals"], asked.whole(verb)["totals"]
    assert {k: v for k, v in bare.items() if v not in (None, whole[k])} == {}
    lost = {"saved_hugetlb_bytes", "folios", "optimised"} & set(whole)
    assert lost and all(bare[key] is None for key in lost)


def test_pools_are_counted_by_the_kernel_alone(asked: Asked) -> None:
    for ours, its in zip(asked.bare("hvo")["rows"], asked.whole("hvo")["rows"]):
        own = ("order", "node", "total", "free", "reserved", "surplus", "overcommit")
        assert [ours[key] for key in own] == [its[key] for key in own]
        if its["total"]:
            assert ours["found"] is None and ours["saved_bytes"] is None


def test_map_has_no_owners_and_every_frame(asked: Asked) -> None:
    def backed(answer: Mapping[str, Any]) -> dict[int, Any]:
        found: dict[int, Any] = {}
        for row in answer["rows"]:
            pages = range(int(row["start_va"], 16) >> 12, int(row["end_va"], 16) >> 12)
            is_shared = row["backing"].endswith("shared")
            found.update((page, (row["readonly"], is_shared)) for page in pages)
        return found

    bare, whole = asked.bare("map"), asked.whole("map")
    assert backed(bare) == backed(whole)
    assert not any(
        (row["owner"] or {}).get("kind") == "hugetlb" for row in bare["rows"]
    )


def test_a_page_tells_its_section_and_frame(asked: Asked) -> None:
    (ours,), (its,) = (
        a["rows"]
        for a in (asked.bare("page pfn:0x8000"), asked.whole("page pfn:0x8000"))
    )
    assert ours["struct_page"] is None and its["struct_page"] is not None
    assert ours["section"] == its["section"] and ours["backs"] == its["backs"]
    assert ours["vmemmap"]["frame_pfn"] == its["vmemmap"]["frame_pfn"]


def test_check_finds_no_more_and_names_the_rules_that_could_not_look(
    asked: Asked,
) -> None:
    bare, whole = asked.bare("check"), asked.whole("check")
    kept = {(row["rule"], str(row["where"])) for row in whole["rows"]}
    assert {(row["rule"], str(row["where"])) for row in bare["rows"]} <= kept
    status = {rule["rule"]: rule["status"] for rule in bare["totals"]["rules"]}
    assert status["S1"] == "checked"
    assert "not checked" in status.values() or "partly" in status.values()
    assert bare["totals"]["checked"] < whole["totals"]["checked"]


def test_a_symbol_is_told_or_asked_for(
    folder: Path, asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked.bare("walk mem_section")["kernel"] == asked.whole("info")["kernel"]
    for words in ("walk _text", "page _text", "page pfn:0 va:_text"):
        capsys.readouterr()
        assert main(["-c", f"{folder}/bare", "--format", "json", *words.split()]) == 2
        said = capsys.readouterr()
        assert said.out == "" and len(said.err.splitlines()) == 1
        assert "does not say about _text" in said.err and "-s" in said.err
    opening = ["-c", f"{folder}/bare", "-s", f"{folder}/vmlinux"]
    assert main([*opening, "walk", "mem_section"]) == 0
