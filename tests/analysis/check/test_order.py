# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `check` says does not depend on what was asked of the same kernel before."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import pytest

import vmemmap_tools.analysis
from tests.model.kernels import varied
from vmemmap_tools.commands import VerbGroup
from vmemmap_tools.commands.session import Session
from vmemmap_tools.kernel.gaps import PARTS
from vmemmap_tools.kernel.kernel import Kernel

from .overlay import Bench, Holes, find

ROOM = Path(vmemmap_tools.analysis.__path__[0])
VERBS = (
    *("summary", "sections", "zones", "hvo --folios", "dax", "map", "walk 0x1000"),
    *("page pfn:0x100123", "page pfn:0x380000", "info"),
)


def accounts(kernel: Kernel) -> dict[str, tuple[str, str | None]]:
    checker, _ = find(kernel)
    return {name: (a.status, a.why) for name, a in checker.accounts.items()}


def ask(kernel: Kernel, line: str) -> None:
    session = Session(lambda: kernel, format="json", stream=io.StringIO())
    group = VerbGroup("vmemmap")
    with group.make_context("vmemmap", line.split(), obj=session) as context:
        group.invoke(context)


@pytest.mark.parametrize("generation", ["6.12", "7.3"])
def test_a_dump_with_holes_is_judged_alike_first_and_last(generation: str) -> None:
    bench = Bench(varied(generation))
    image = bench.machine.image()
    page = image.core.vmemmap.page_of(0x100123)
    # Struct pages that verbs look at, and that are no head of a huge page.
    missing = {image.frame_of(page), image.frame_of(page + 1)}
    target = Holes(bench.target, missing)
    alone = accounts(Kernel(target))
    kernel = Kernel(target)
    for line in VERBS:
        ask(kernel, line)
    assert kernel.missing
    assert accounts(kernel) == alone


def test_no_analysis_counts_what_only_the_views_may() -> None:
    """Else a rule that runs early would make a later one see a part as not whole."""
    concerns = {concern for part in PARTS.values() for concern in part.concerns}
    found = []
    for path in sorted(ROOM.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr not in ("record", "unread"):
                    continue
                words = [a.value for a in node.args if isinstance(a, ast.Constant)]
                found += [(path.name, word) for word in words if word in concerns]
    assert found == []
