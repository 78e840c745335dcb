# SPDX-License-Identifier: LGPL-2.1-or-later
"""The stable interface: the JSON fields of every verb, and what is in them.

The tables below are the promise (docs/exit-codes-and-json.md): a name may be added to
an answer, never taken away. "int?" may be null; "hex" is a "0x..." string.
"""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pytest

from tests.analysis.machines import busy, dax
from vmemmap_tools.commands import VERBS
from vmemmap_tools.kernel.kernel import Kernel

from .asking import ask, text

TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "str": (str,),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
}
WORDS = {
    "summary": [],
    "info": [],
    "sections": [],
    "zones": [],
    "page": ["pfn:0x8005", "0xffffea0000201900"],
    "walk": ["0xffffea0000201900"],
    "map": [],
    "hvo": [],
    "dax": [],
}
"""Every verb in the order of help, and words that make it answer."""

KERNEL = {
    "release": "str",
    "arch": "str",
    "page_size": "int",
    "page_struct_size": "int",
    "levels": "int",
    "vmemmap_va": "hex",
    "features": "list",
}
SUMMARY_NAMES = (
    "sections mapped_bytes backing_frames huge_leaves base_leaves readonly_leaves "
    "shared_frames saved_bytes saved_hugetlb_bytes saved_dax_bytes saved_other_bytes "
    "altmap_frames selfhosted_frames net_ram_bytes savable_hugetlb_bytes "
    "savable_dax_bytes page_table_bytes shared_tail_bytes"
)
SUMMARY_TOTALS = {
    **dict.fromkeys(SUMMARY_NAMES.split(), "int"),
    **dict.fromkeys(["nr_memmap_pages", "nr_memmap_boot_pages"], "int?"),
}

ROWS: dict[str, dict[str, str]] = {
    "summary": {
        "node": "int?",
        "zone": "str?",
        "kind": "str",
        **dict.fromkeys(
            ["order", "count", "optimised", "saved_bytes", "savable_bytes"], "int"
        ),
    },
    "info": {"subject": "str", "value": "str?", "source": "str"},
    "sections": {
        **dict.fromkeys(["nr", "start_pfn", "pages", "subsections"], "int"),
        **dict.fromkeys(["huge_leaves", "base_leaves", "backing_frames"], "int"),
        **dict.fromkeys(["node", "order", "subsections_set", "memory_block"], "int?"),
        "state": "str",
        "flags": "list",
        "zone": "str?",
        "section_zone": "str?",
        "self_hosted": "bool",
        "memmap_va": "hex?",
    },
    "zones": {
        **dict.fromkeys(["node", "start_pfn", "spanned", "present", "managed"], "int"),
        "zone": "str",
        "tails": "list",
    },
    "page": {"target": "str", "verdict": "str", "explanation": "list"},
    "walk": {
        **dict.fromkeys(["level", "table_pa", "index"], "int"),
        "name": "str",
        "entry": "hex",
        "flags": "list",
        "leaf": "bool",
    },
    "map": {
        "start_va": "hex",
        "end_va": "hex",
        **dict.fromkeys(["start_pfn", "end_pfn", "frames"], "int"),
        "backing": "str",
        "first_frame_pfn": "int?",
        "readonly": "bool?",
        "owner": "dict?",
    },
    "hvo": {
        **dict.fromkeys(["order", "size_bytes", "node", "total", "free"], "int"),
        **dict.fromkeys(["reserved", "surplus", "overcommit", "optimised"], "int"),
        **dict.fromkeys(["flagged", "unoptimised", "saved_bytes"], "int"),
        "reason": "str?",
    },
    "dax": {
        **dict.fromkeys(["start_pfn", "end_pfn", "vmemmap_shift", "compounds"], "int"),
        **dict.fromkeys(["optimised_compounds", "vmemmap_pages"], "int"),
        **dict.fromkeys(["backing_frames", "saved_bytes"], "int"),
        **dict.fromkeys(["expected_saved_bytes", "generalised_extra_bytes"], "int"),
        "type": "str",
        "altmap": "dict?",
    },
}
FOLIO = {
    "flags": "list",
    **dict.fromkeys(["pfn", "order", "node"], "int"),
    "zone": "str",
    "layout": "str",
    **dict.fromkeys(["free", "flagged", "tail_readonly"], "bool?"),
    "optimised": "bool",
    "head_frame_pfn": "int?",
    "tail_frame_pfn": "int?",
}
WALK_TOTALS = {
    **dict.fromkeys(["pa", "frame_pfn", "page_size"], "int?"),
    "readonly": "bool?",
}


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return busy().kernel()


def assert_fields(value: dict[str, Any], fields: dict[str, str]) -> None:
    for name, spec in fields.items():
        assert name in value, name
        found, kind = value[name], spec.rstrip("?")
        if found is None:
            assert spec.endswith("?"), name
        elif kind == "hex":
            assert re.fullmatch("0x[0-9a-f]+", found), name
        else:
            assert isinstance(found, TYPES[kind]), name
            assert isinstance(found, bool) == (kind == "bool"), name


def test_the_tables_have_every_verb() -> None:
    assert set(WORDS) == set(ROWS) <= set(VERBS)


@pytest.mark.parametrize("verb", WORDS)
def test_the_envelope_is_the_same_for_every_verb(kernel: Kernel, verb: str) -> None:
    answer = ask(kernel, verb, *WORDS[verb])
    assert list(answer) == ["schema", "kernel", "rows", "totals", "missing"]
    assert answer["schema"] == f"vmemmap-tools/{verb}/1"
    assert_fields(answer["kernel"], KERNEL)
    assert answer["missing"] == {}


@pytest.mark.parametrize("verb", WORDS)
def test_the_rows_have_their_fields(kernel: Kernel, verb: str) -> None:
    rows = ask(kernel, verb, *WORDS[verb])["rows"]
    assert rows
    for row in rows:
        assert_fields(row, ROWS[verb])


@pytest.mark.parametrize("verb", WORDS)
@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_every_verb_prints_every_form_before_and_after_its_name(
    kernel: Kernel, verb: str, form: str
) -> None:
    before = text(kernel, "--format", form, verb, *WORDS[verb])
    after = text(kernel, verb, *WORDS[verb], "--format", form)
    assert before == after != ""


@pytest.mark.parametrize("verb", WORDS)
def test_csv_has_a_heading_for_every_field_that_is_no_object(
    kernel: Kernel, verb: str
) -> None:
    heading = next(
        csv.reader(io.StringIO(text(kernel, "--format=csv", verb, *WORDS[verb])))
    )
    plain = [
        n for n, spec in ROWS[verb].items() if spec.rstrip("?") not in ("list", "dict")
    ]
    assert set(plain) <= set(heading)


def test_a_bare_call_is_the_summary(kernel: Kernel) -> None:
    assert ask(kernel)["schema"] == "vmemmap-tools/summary/1"


def test_the_totals_of_summary_have_their_fields(kernel: Kernel) -> None:
    assert_fields(ask(kernel)["totals"], SUMMARY_TOTALS)


def test_the_totals_of_walk_have_their_fields(kernel: Kernel) -> None:
    assert_fields(ask(kernel, "walk", "0xffffea0000201900")["totals"], WALK_TOTALS)
    assert_fields(ask(kernel, "walk", "0x1000")["totals"], WALK_TOTALS)


def test_the_folios_of_hvo_have_their_fields(kernel: Kernel) -> None:
    rows = ask(kernel, "hvo", "--folios")["rows"]
    assert len(rows) == 3
    for row in rows:
        assert_fields(row, FOLIO)


def test_the_tails_of_zones_have_their_fields(kernel: Kernel) -> None:
    tails = [tail for row in ask(kernel, "zones")["rows"] for tail in row["tails"]]
    assert len(tails) == 1
    assert_fields(
        tails[0],
        {"order": "int", "page_va": "hex", "pfn": "int", "mapped_by": "int"},
    )
    assert tails[0]["mapped_by"] == 14


def test_the_owner_of_map_has_its_fields(kernel: Kernel) -> None:
    owners = [row["owner"] for row in ask(kernel, "map")["rows"] if row["owner"]]
    assert {owner["kind"] for owner in owners} == {"hugetlb", "dax"}
    for owner in owners:
        assert_fields(owner, {"kind": "str", "pfn": "int", "order": "int"})


def test_the_altmap_of_dax_has_its_fields() -> None:
    kernel = dax(form=None, altmap=(0x100000, 16, 4096, 512)).kernel()
    (row,) = ask(kernel, "dax")["rows"]
    assert_fields(
        row["altmap"], dict.fromkeys(["base_pfn", "reserve", "free", "alloc"], "int")
    )


def test_the_layouts_and_backings_are_words_of_the_list(kernel: Kernel) -> None:
    layouts = {r["layout"] for r in ask(kernel, "hvo", "--folios")["rows"]}
    assert layouts == {"zone-shared", "private"}
    backings = {r["backing"] for r in ask(kernel, "map")["rows"]}
    assert backings == {"huge", "private", "zone-shared", "page1-shared", "hole"}


@pytest.mark.parametrize("verb", WORDS)
def test_what_is_missing_is_counted_by_kind_in_every_verb(verb: str) -> None:
    m = busy()
    m.memory.lose(m.frame(512))
    for pool in m.pools:
        m.memory.lose(pool - m.target.direct_map >> 12)
    missing = ask(m.kernel(), verb, *WORDS[verb])["missing"]
    assert set(missing) <= {"excluded", "outside", "unmapped", "io", "damaged"}
    assert all(
        isinstance(n, int) for counts in missing.values() for n in counts.values()
    )
