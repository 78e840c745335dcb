# SPDX-License-Identifier: LGPL-2.1-or-later
"""The committed layouts and the packaged kernel of the day: what has moved, in lines.

Drift is no failure: the model then writes an older kernel. A report that is wrong is
one; the guest's own VMCOREINFO is the judge of it.
"""

from __future__ import annotations

import re

from vmemmap_tools.model.layouts import bases, load, origin
from vmemmap_tools.model.layouts.drift import drift, facts
from vmemmap_tools.model.layouts.reduce import reduced
from vmemmap_tools.model.types import TypeGraph

from .compare import Compare
from .runs import Run

BUILD_ID = re.compile(r"^BUILD-ID=(\w+)$", re.MULTILINE)
FACT = re.compile(r"^(SIZE|OFFSET)\((\w+(?:\.\w+)?)\)=(\d+)$", re.MULTILINE)


def test_what_has_moved_since_the_layouts_were_taken(
    run: Run, compare: Compare
) -> None:
    today = TypeGraph.from_btf(reduced(run.btf.read_bytes()))
    # The layout that is nearest, by its types and not by a release.
    base = min(bases(), key=lambda name: len(drift(load(name), today)))
    moved = drift(load(base), today)
    text = run.vmcoreinfo.read_text()
    lines = "; ".join(f"{what}: {was} -> {now}" for what, (was, now) in moved.items())
    said = f"since {origin(base).release}: {lines or 'nothing has moved'}"
    found = BUILD_ID.search(text)
    is_same = found is not None and found[1] == origin(base).build_id
    compare.true(
        f"layouts: drift from {base}, none in the same build",
        not (is_same and moved),
        said,
    )
    told, current = _told(text), facts(today)
    for name in bases():
        old, found_moved = facts(load(name)), drift(load(name), today)
        known = old.keys() & current.keys() & told.keys()
        compare.true(f"layouts: known to {name} and VMCOREINFO", len(known) > 10, "")
        compare.equal(
            f"layouts: what has moved since {name} = VMCOREINFO's differences",
            {
                what: _place(found_moved[what][1])
                for what in known & found_moved.keys()
                if _place(found_moved[what][0]) != _place(found_moved[what][1])
            },
            {what: told[what] for what in known if _place(old[what]) != told[what]},
        )


def _told(text: str) -> dict[str, int]:
    """Sizes of structs in bytes and offsets of members in bytes, by VMCOREINFO."""
    return {
        f"struct {name}" if kind == "SIZE" else name: int(value)
        for kind, name, value in FACT.findall(text)
    }


def _place(fact: str) -> int:
    """The number of bytes that a fact of `facts` tells."""
    number = int(re.findall(r"\d+", fact)[0])
    return number // 8 if fact.startswith("bit") else number
