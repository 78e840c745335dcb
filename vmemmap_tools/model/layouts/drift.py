# SPDX-License-Identifier: LGPL-2.1-or-later
"""How far a kernel's types have moved away from a committed layout.

Packaged kernels change under the same name. What the model writes is then that of the
kernel named in index.json, no longer that of today's: `drift` says where they part.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmemmap_tools.formats.btf import Kind, Record
from vmemmap_tools.model.types import AGGREGATES, ENUMS, TypeGraph

__all__ = ["drift", "facts"]

KEYWORDS = {Kind.STRUCT: "struct", Kind.UNION: "union"}


def drift(committed: TypeGraph, current: TypeGraph) -> dict[str, tuple[str, str]]:
    """{what: (in the committed layout, in the current kernel)}, where they differ.

    Both have to be reduced alike; what one of them lacks is called "absent" there.
    """
    old, new = facts(committed), facts(current)
    return {
        name: (old.get(name, "absent"), new.get(name, "absent"))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    }


def facts(graph: TypeGraph) -> dict[str, str]:
    """Sizes in bytes, offsets in bits, enumerators and parameters, each by its name."""
    found: dict[str, str] = {}
    for record in graph.records.values():
        if record.kind in AGGREGATES and record.name:
            keyword = KEYWORDS[record.kind]
            found[f"{keyword} {record.name}"] = f"{record.size} bytes"
            for path, place in _members(graph, record, record.name, 0):
                found[path] = place
        elif record.kind in ENUMS:
            for constant in record.enumerators:
                found[constant.name] = str(constant.value)
        elif record.kind == Kind.FUNC:
            names = (p.name for p in graph.function(record.name))
            found[f"{record.name}()"] = ", ".join(names)
    return found


def _members(
    graph: TypeGraph, record: Record, path: str, base: int
) -> Iterator[tuple[str, str]]:
    """(path, place) of the members, those of anonymous ones as the holder's own."""
    for member in record.members:
        inner = graph.records.get(graph.strip(member.type))
        offset = base + member.bit_offset
        if not member.name:
            if inner is not None:
                yield from _members(graph, inner, path, offset)
            continue
        name = f"{path}.{member.name}"
        if member.bit_size:
            yield name, f"bit {offset}, {member.bit_size} bits"
            continue
        size = graph.size(member.type) if member.type else 0
        yield name, f"bit {offset}, {size} bytes"
        # A named member of no named type has no other place to be told.
        if inner is not None and inner.kind in AGGREGATES and not inner.name:
            yield from _members(graph, inner, name, offset)
