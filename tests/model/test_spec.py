# SPDX-License-Identifier: LGPL-2.1-or-later
"""Machine descriptions: the samples, and what is said about bad ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.model.kernels import GENERATIONS, GIB
from vmemmap_tools.model import spec

SAMPLES = spec.samples()


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_builds_and_says_what_it_shows(name: str) -> None:
    description = spec.load(SAMPLES[name])
    assert description.shows
    assert SAMPLES[name].read_text().splitlines()[1].startswith("# ")
    machine = spec.build(description)
    assert machine.books()["title"] == description.title


def test_there_is_a_sample_of_every_generation() -> None:
    assert {f"gen-{g}" for g in GENERATIONS} <= set(SAMPLES)


def test_the_terabyte_sample_saves_seven_pages_for_each_folio() -> None:
    books = spec.build(spec.load(SAMPLES["terabyte"])).books()
    assert books["hstates"][0]["optimised"] == 471860
    assert books["vmemmap"]["saved_pages_hvo"] == 471860 * 7
    assert books["vmemmap"]["pages"] == 1026 * GIB // 4096 // 64 - 2 * GIB // 4096 // 64


def test_steps_run_in_order() -> None:
    description = spec.parse(
        {
            "step": [
                {"do": "hugetlb_alloc", "size": "2M", "count": 4},
                {"do": "hugetlb_free", "size": "2M", "count": 1},
            ]
        }
    )
    assert spec.build(description).books()["hstates"][0]["nr"] == 3


def test_boot_pages_can_be_counted_and_placed() -> None:
    description = spec.parse(
        {
            "node": [{"memory": ["0-1G", "4G-8G"]}],
            "boot_page": [
                {"size": "1G", "pfn": 0x180000},
                {"size": "1G", "count": 2},
            ],
        }
    )
    heads = spec.build(description).hugetlb.heads(GIB)
    assert len(heads) == 3
    assert 0x180000 in heads


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "key": ({"generaton": "7.3"}, "no key 'generaton'"),
    "generation": ({"generation": "4.4"}, "no generation '4.4'"),
    "type": ({"machine": {"levels": "four"}}, "levels has the wrong type"),
    "bool": ({"machine": {"levels": True}}, "levels has the wrong type"),
    "range": ({"node": [{"memory": ["4G"]}]}, "a range is text"),
    "empty": ({"node": [{"memory": ["4G-4G"]}]}, "is empty"),
    "size": ({"node": [{"memory": ["0-xG"]}]}, "is no size"),
    "step": ({"step": [{"do": "reboot"}]}, "do must be one of"),
    "argument": ({"step": [{"do": "set_hvo", "off": True}]}, "set_hvo"),
    "missing": ({"step": [{"do": "hugetlb_alloc"}]}, "size"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_description_is_refused_with_its_place(case: str) -> None:
    data, message = BAD[case]
    with pytest.raises(spec.SpecError, match=message):
        spec.parse(data)


def test_a_step_that_fails_is_named() -> None:
    data = {"step": [{"do": "hugetlb_alloc", "size": "1G", "count": 9}]}
    with pytest.raises(spec.SpecError, match=r"\[\[step\]\] 0 \(hugetlb_alloc\)"):
        spec.build(spec.parse(data))


def test_text_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("generation = \n")
    with pytest.raises(spec.SpecError, match="broken"):
        spec.load(path)
