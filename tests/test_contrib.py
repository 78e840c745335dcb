# SPDX-License-Identifier: LGPL-2.1-or-later
"""The scripts in contrib/ run under plain drgn and say what the books say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest

from tests.samples import Sample

DRGN = Path(sys.executable).parent / "drgn"
CONTRIB = Path(__file__).parents[1] / "contrib"
MAX_LINES = 66
"""One screen."""


@pytest.fixture(scope="module")
def dump(sample: Callable[[str], Sample]) -> Sample:
    return sample("two-node")


def run(dump: Sample, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DRGN, "-q", "-c", dump.core, "-s", dump.vmlinux, CONTRIB / name, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def script(dump: Sample, name: str, *words: str) -> list[str]:
    """The lines that a script prints."""
    found = run(dump, name, *words)
    assert found.returncode == 0, found.stderr
    assert not found.stderr
    return found.stdout.splitlines()


def test_every_script_is_short_and_tried() -> None:
    names = sorted(path.name for path in CONTRIB.glob("*.py"))
    tried = set(re.findall(r'"(\w+\.py)"', Path(__file__).read_text("utf-8")))
    assert set(names) <= tried
    assert len(names) == 5
    for name in names:
        assert len((CONTRIB / name).read_text("utf-8").splitlines()) <= MAX_LINES


def test_how_much_hvo_saves_per_node(dump: Sample) -> None:
    saved = {node: 0 for node in ("0", "1")}
    savable = {node: 0 for node in ("0", "1")}
    for row in dump.books["hstates"]:
        for node, of_node in row["nodes"].items():
            saved[node] += of_node["saved_pages"] * 4
            private = of_node["nr"] - of_node["optimised"]
            savable[node] += private * 4 * ((64 << row["order"] >> 12) - 1)
    lines = [line.split() for line in script(dump, "hvo_per_node.py")[1:]]
    assert lines == [[n, str(saved[n]), str(savable[n])] for n in ("0", "1")]


def test_which_pages_are_not_optimised(dump: Sample) -> None:
    expected = {
        row["head_pfn"] + (i << 9): row["node"]
        for row in dump.books["folios"]
        for i in range(row["count"])
        if row["order"] == 9 and not row["optimised"]
    }
    lines = script(dump, "not_optimized.py")
    found = {
        int(line.split()[0], 16): int(line.split()[2])
        for line in lines
        if line.startswith("0x")
    }
    assert found == expected
    assert len(found) == 8
    assert all(line.endswith(": eligible") for line in lines[: len(found)])
    total = next(row["nr"] for row in dump.books["hstates"] if row["order"] == 9)
    assert lines[-2].startswith(f"{total - 8} pages of 2 MiB are optimised, 8 are not")
    assert (
        "1024 MiB are optimised, 0 are not"
        in script(dump, "not_optimized.py", "1024")[-1]
    )


def test_who_maps_a_frame(dump: Sample) -> None:
    tail = dump.books["shared_tails"][0]
    lines = script(dump, "frame_users.py", hex(tail["frame_pfn"]))
    assert lines[0].endswith(f"stands behind {tail['mapped_by']} pages of the vmemmap")
    assert lines[1] == (
        f"it is the shared tail page of zone {tail['zone']}, order {tail['order']}"
    )
    shown = [line for line in lines if line.startswith("0x")]
    assert len(shown) == 32
    assert all(line.endswith(f"order {tail['order']}, zone-shared") for line in shown)
    assert lines[-1] == f"... and {tail['mapped_by'] - 32} more"


def test_what_is_at_a_faulting_address(dump: Sample) -> None:
    row = next(r for r in dump.books["folios"] if r["order"] == 9 and r["optimised"])
    pfn = row["head_pfn"] + 77
    address = int(dump.books["vmemmap_base_va"], 16) + 64 * pfn
    lines = script(dump, "explain_fault.py", hex(address))
    assert [line.split()[0] for line in lines[:4]] == ["PGD", "PUD", "PMD", "PTE"]
    leaf = dump.books.leaf_of(pfn)
    assert leaf is not None
    text = "\n".join(lines)
    assert f"struct page of pfn {pfn:#x}, section PMOE" in text
    assert f"frame {leaf.frame:#x} backs " in text
    assert "tail struct pages are shared, and must not be written" in text
    assert f"Target:        {address:#x}" in text
    # An address that is none is explained as well.
    text = "\n".join(script(dump, "explain_fault.py", hex(address + (1 << 39))))
    assert "has no struct page" in text


def test_watching_hvo(dump: Sample) -> None:
    lines = [line.split() for line in script(dump, "watch_hvo.py", "0", "3")]
    folios = sum(row["nr"] for row in dump.books["hstates"])
    optimised = sum(row["optimised"] for row in dump.books["hstates"])
    saved = sum(row["saved_pages"] for row in dump.books["hstates"]) * 4
    expected = [str(folios), str(optimised), str(saved), "+0"]
    assert [line[1:] for line in lines[1:]] == [expected] * 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["explain_fault.py"], "contrib/explain_fault.py ADDRESS"),
        (["explain_fault.py", "0x1000"], "the vmemmap begins at 0xff"),
        (["frame_users.py"], "contrib/frame_users.py PFN"),
    ],
)
def test_what_cannot_be_asked_is_said_without_a_traceback(
    dump: Sample, words: list[str], said: str
) -> None:
    found = run(dump, *words)
    assert found.returncode == 1
    assert said in found.stderr
    assert "Traceback" not in found.stderr
