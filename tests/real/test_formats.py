# SPDX-License-Identifier: LGPL-2.1-or-later
"""The verbs as a user runs them: the program itself, and its other formats."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import pytest

from .compare import Compare
from .dumps import VERBS_COMPARED, Dump

CLI = [sys.executable, "-m", "vmemmap_tools.cli"]


def _flat(words: tuple[str, ...]) -> bool:
    """Whether the rows hold no lists, of which CSV makes more lines."""
    return words[0] not in ("sections", "zones") and "--folios" not in words


@pytest.mark.parametrize("words", [("info",), *VERBS_COMPARED], ids=" ".join)
def test_csv_and_table_have_the_rows_of_json(
    dump: Dump, compare: Compare, words: tuple[str, ...]
) -> None:
    rows = len(dump.rows(*words))
    lines = list(csv.DictReader(io.StringIO(dump.text("csv", *words))))
    name = " ".join(words)
    if _flat(words):
        compare.equal(f"{name}: lines of CSV = rows of JSON", len(lines), rows)
    else:
        said = f"{len(lines)} for {rows}"
        compare.true(f"{name}: lines of CSV for rows of JSON", len(lines) >= rows, said)
    table = dump.text("table", *words).splitlines()
    said = f"{len(table)} for {rows}"
    compare.true(
        f"{name}: lines of the table for rows of JSON", len(table) > rows, said
    )


@pytest.mark.variants("kaslr")
@pytest.mark.parametrize(
    "words", [("summary",), ("map", "--leaves"), ("page", "pfn:0")], ids=" ".join
)
def test_the_program_gives_the_answer_and_no_word_more(
    dump: Dump, compare: Compare, words: tuple[str, ...]
) -> None:
    options = ["-c", str(dump.path), "-s", str(dump.run.vmlinux), "--format", "json"]
    ended = subprocess.run(
        [*CLI, *options, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    name = " ".join(words)
    compare.equal(
        f"{name}: exit status and standard error of the program",
        (ended.returncode, ended.stderr),
        (0, ""),
    )
    compare.equal(
        f"{name}: answer of the program = answer of the verb",
        json.loads(ended.stdout),
        dump.ask(*words),
        f"{len(ended.stdout)} characters",
    )
