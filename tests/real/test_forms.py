# SPDX-License-Identifier: LGPL-2.1-or-later
"""The forms of one dump give the same answers."""

from __future__ import annotations

from typing import Any

import pytest

from .compare import Compare
from .dumps import VERBS_COMPARED, Answer, Dump

EVIDENCE = ("memory",)
"""Facts of `vmemmap info` that name the file."""


@pytest.mark.parametrize("words", VERBS_COMPARED, ids=" ".join)
def test_elf_and_kdump_give_the_same_answer(
    dumps: dict[str, Dump], compare: Compare, words: tuple[str, ...]
) -> None:
    elf, kdump = (dumps[form].ask(*words) for form in ("elf", "kdump"))
    compare.equal(
        f"{' '.join(words)}: ELF = kdump", elf, kdump, f"{len(elf['rows'])} rows"
    )


def test_elf_and_kdump_are_known_by_the_same_facts(
    dumps: dict[str, Dump], compare: Compare
) -> None:
    elf, kdump = (_facts(dumps[form].ask("info")) for form in ("elf", "kdump"))
    compare.equal("info: ELF = kdump", elf, kdump, f"{len(elf)} facts")


def _facts(answer: Answer) -> list[dict[str, Any]]:
    return [row for row in answer["rows"] if row["subject"] not in EVIDENCE]
