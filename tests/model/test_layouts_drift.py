# SPDX-License-Identifier: LGPL-2.1-or-later
"""Drift of a layout: every edit of a generation is told, and nothing else."""

from __future__ import annotations

import pytest

from vmemmap_tools.model.layouts import bases, load
from vmemmap_tools.model.layouts.drift import drift
from vmemmap_tools.model.layouts.edits import (
    drop_member,
    drop_parameter,
    edited,
    resize,
)
from vmemmap_tools.model.layouts.generations import PGMAP


@pytest.mark.parametrize("name", bases())
def test_a_layout_does_not_drift_from_itself(name: str) -> None:
    assert drift(load(name), load(name)) == {}


def test_a_size_an_absent_member_and_a_parameter_are_told() -> None:
    base = load("7.3")
    moved = edited(
        base,
        (
            resize("mem_section", 32),
            drop_member("hstate.demote_order"),
            drop_parameter("sparse_add_section", PGMAP),
        ),
    )
    found = drift(base, moved)
    assert found["struct mem_section"] == ("16 bytes", "32 bytes")
    assert found["hstate.demote_order"][1] == "absent"
    before, after = found["sparse_add_section()"]
    assert "pgmap" in before.split(", ") and "pgmap" not in after.split(", ")
    assert len(found) == 3


def test_the_order_and_size_of_kernels_that_differ_are_told() -> None:
    found = drift(load("6.12"), load("7.3"))
    assert found["struct zone"] == ("1536 bytes", "1856 bytes")
    assert found["zone.vmemmap_tails"][0] == "absent"
    assert found["struct free_area"] == ("88 bytes", "104 bytes")
