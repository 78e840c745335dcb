# SPDX-License-Identifier: LGPL-2.1-or-later
"""Faults: each changes the image somewhere, the same place for the same seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.model.kernels import varied
from tests.model.walk import struct_page, vmemmap_leaves
from vmemmap_tools.cli import main
from vmemmap_tools.model.faults import FAULTS, NotApplicable, apply
from vmemmap_tools.model.image import Image
from vmemmap_tools.model.machine import Machine

WHERE = {
    "counter-dax-surplus": "7.3",
    "dax-refcount": "7.3",
    "restored-head-clones": "6.12",
    "section-bad-order": "section-dax",
    "section-order-differs": "section-dax",
    "section-order-huge-leaf": "section-dax",
    "section-stale-order": "section-dax",
    "section-wrong-zone": "seed",
    "static-key-unbalanced": "6.12",
}
"""A generation in which a fault exists, where 7.3 is none."""

MACHINES: dict[str, Machine] = {}


def image_for(name: str) -> Image:
    generation = WHERE.get(name, "7.3")
    if generation not in MACHINES:
        machine = varied(generation)
        if name == "dax-uninitialised":
            machine.dax_remove("pmem3").dax_add("dax4", "6912M", "96M")
        MACHINES[generation] = machine
    return MACHINES[generation].image()


def changed(image: Image, before: Image) -> set[int]:
    frames = set(image.memory._pages) | set(before.memory._pages)
    return {
        pfn
        for pfn in frames
        if image.memory.read(pfn << 12, 4096) != before.memory.read(pfn << 12, 4096)
    }


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_changes_the_image(name: str) -> None:
    before, image = image_for(name), image_for(name)
    (planted,) = apply(image, [name], seed=1)
    assert planted.where
    assert changed(image, before)


@pytest.mark.parametrize("name", FAULTS)
def test_a_seed_decides_the_place(name: str) -> None:
    first, second = image_for(name), image_for(name)
    assert apply(first, [name], 5)[0].where == apply(second, [name], 5)[0].where
    assert not changed(first, second)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_described(name: str) -> None:
    fault = FAULTS[name]
    assert len(fault.description) > 20
    assert len(fault.imitates) > 10
    rules = (*fault.rules, *fault.implied)
    assert all(rule[0] in "SZFCP" and rule[1:].isdigit() for rule in rules)


RULES = {
    "S": {*range(1, 12)},
    "Z": {*range(1, 7)},
    "F": {*range(1, 14)},
    "C": {*range(1, 5)},
    "P": {*range(1, 9)},
}
"""Rules a dump can break; Z7, F14 and F15 only report what is legal."""


def test_every_rule_has_a_fault() -> None:
    violated = {rule for fault in FAULTS.values() for rule in fault.rules}
    wanted = {f"{letter}{n}" for letter, numbers in RULES.items() for n in numbers}
    assert wanted <= violated


def test_faults_compose() -> None:
    before, image = image_for("tail-writable"), image_for("tail-writable")
    names = ["tail-writable", "counter-drift", "section-no-usage", "tail-writable"]
    planted = apply(image, names, seed=2)
    assert [p.fault.name for p in planted] == names
    assert len(changed(image, before)) >= 3


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="no fault 'nonsense'"):
        apply(image_for("tail-writable"), ["nonsense"])


def test_a_fault_without_a_victim_says_what_is_missing() -> None:
    with pytest.raises(NotApplicable, match="shared tail page"):
        apply(Machine("6.1").image(), ["tail-zeroed"])


def test_a_writable_tail_is_the_only_difference() -> None:
    before, image = image_for("tail-writable"), image_for("tail-writable")
    (planted,) = apply(image, ["tail-writable"], seed=3)
    old, new = vmemmap_leaves(before), vmemmap_leaves(image)
    assert [page for page in old if old[page] != new[page]] == [planted.where["page"]]
    assert new[planted.where["page"]].writable


def test_head_clones_look_as_they_did_on_the_real_kernel() -> None:
    image = image_for("restored-head-clones")
    (planted,) = apply(image, ["restored-head-clones"], seed=1)
    head = 1 << image.types.enumerator("PG_head")
    assert planted.where["pages"] == 7
    for page in range(planted.where["page"] + 1, planted.where["page"] + 8):
        words = struct_page(image, page * 64)
        assert words[0] & head
        assert words[6] & 0xFFFFFFFF == 0xF4000000
        assert words[6] >> 32 == 0
        assert struct_page(image, page * 64 + 1)[0] & 0xFF == 9


def test_the_dax_surplus_is_6_pages_for_each_2m_compound() -> None:
    machine = varied("7.3").dax_remove("dax0")
    image = machine.image()
    (planted,) = apply(image, ["counter-dax-surplus"], seed=1)
    assert planted.where["pages"] == 6 * 130
    counter = image.variables["nr_memmap_pages"].get_scalar()
    assert counter == machine.books()["counters"]["nr_memmap_pages"] + 780


def test_books_name_the_faults_of_a_dump(tmp_path: Path) -> None:
    varied("7.3").write(tmp_path, faults=["tail-zeroed"], seed=4)
    books = json.loads((tmp_path / "books.json").read_text())
    (row,) = books["faults"]
    assert row["fault"] == "tail-zeroed"
    assert row["rules"] == ["Z2", "F5"]
    assert row["where"]["order"] in (9, 18)


def test_the_list_tells_what_a_fault_implies(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--format", "json", "model", "fault", "--list"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert (rows["tail-freed"]["rules"], rows["tail-freed"]["implied"]) == (
        ", ".join(FAULTS["tail-freed"].rules),
        "P5",
    )
    assert main(["model", "fault", "tail-freed"]) == 0
    assert "may imply P5" in capsys.readouterr().out


def test_a_group_of_commands_alone_shows_its_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["model"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Usage: vmemmap model")
    assert any(line.split()[:1] == ["build"] for line in lines)
