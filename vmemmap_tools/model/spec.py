# SPDX-License-Identifier: LGPL-2.1-or-later
"""Machine descriptions in TOML: what boots, and what then happens to it.

::

    title = "two nodes"
    generation = "7.3"

    [machine]                  # all optional
    levels = 4                 # page-table levels
    kaslr = 7                  # seed of the layout; leave out for none
    hvo = true

    [[node]]
    memory = ["0-2G", "4G-8G"]

    [[boot_page]]
    size = "1G"
    node = 0

    [[step]]                   # any number, in order: a method of Machine
    do = "hugetlb_alloc"
    size = "2M"
    count = 64

Sizes and addresses are numbers or text such as 64K, 2M, 1.5G, 0x1000.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vmemmap_tools.model.boot import BootPage, NodeMemory
from vmemmap_tools.model.generations import GENERATIONS
from vmemmap_tools.model.machine import Machine, parse_size

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["STEPS", "Spec", "SpecError", "build", "load", "parse", "samples"]

STEPS = (
    "hugetlb_alloc",
    "hugetlb_free",
    "hugetlb_demote",
    "hugetlb_use",
    "hugetlb_isolate",
    "set_hvo",
    "dax_add",
    "dax_remove",
    "dax_to_kmem",
    "memory_add",
    "memory_online",
    "memory_offline",
    "memory_remove",
    "memory_use",
)
"""Methods of Machine that a step may call."""

_TOP = {
    "title": str,
    "shows": str,
    "generation": str,
    "machine": dict,
    "node": list,
    "boot_page": list,
    "step": list,
    "faults": list,
    "seed": int,
}
_MACHINE = {
    "arch": str,
    "levels": int,
    "kaslr": int,
    "sme": bool,
    "hvo": bool,
    "mms": int,
    "defects": bool,
    "extras": list,
}
_NODE = {"id": int, "memory": list, "movable": (int, str)}
_BOOT_PAGE = {"size": (int, str), "node": int, "count": int, "pfn": int}
_ARGUMENTS = {
    "int": int,
    "int | None": int,
    "bool": bool,
    "str": str,
    "Size": (int, str),
}
"""What a step's arguments may be, by the annotations of Machine's methods."""

MAX_ADDRESS = 1 << 46
MAX_MEMORY = 16 << 40
"""Bytes of all nodes: the model of 1 TiB takes seconds and some hundred MiB."""
MAX_COUNT = 1 << 20
"""Nodes, pages, processes."""
_FREE_NUMBERS = frozenset({"kaslr", "seed"})
"""Integers that count nothing."""


class SpecError(ValueError):
    """A description that cannot be understood; says which part."""


@dataclass(frozen=True)
class Spec:
    """A parsed machine description."""

    title: str
    shows: str
    generation: str
    machine: Mapping[str, Any]
    nodes: Mapping[int, NodeMemory]
    boot_pages: tuple[BootPage, ...]
    steps: tuple[tuple[str, Mapping[str, Any]], ...]
    faults: tuple[str, ...] = ()
    seed: int = 0
    source: str = field(default="", compare=False)


def load(path: Path) -> Spec:
    """Read a description; SpecError if it is none, OSError if it cannot be read."""
    try:
        data = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{path.name}: {error}") from None
    return parse(data, path.stem)


def parse(data: Mapping[str, Any], source: str = "description") -> Spec:
    """Check a decoded description and make a Spec of it."""
    _check(data, _TOP, source)
    generation = data.get("generation", "7.3")
    if generation not in GENERATIONS:
        known = ", ".join(GENERATIONS)
        raise SpecError(f"{source}: no generation {generation!r}; there are {known}")
    machine = data.get("machine", {})
    _check(machine, _MACHINE, f"{source}: [machine]")
    nodes = {}
    for index, row in enumerate(data.get("node", [{"memory": ["0-1G"]}])):
        place = f"{source}: [[node]] {index}"
        _check(row, _NODE, place)
        memory = [_range(text, place) for text in row.get("memory", [])]
        movable = _size(row.get("movable", 0), place)
        nodes[row.get("id", index)] = NodeMemory(memory, movable)
    pages = []
    for index, row in enumerate(data.get("boot_page", [])):
        place = f"{source}: [[boot_page]] {index}"
        _check(row, _BOOT_PAGE, place)
        page = BootPage(
            row.get("node", 0), _size(row.get("size", "1G"), place), row.get("pfn")
        )
        pages += [page] * row.get("count", 1)
    steps = [
        _step(row, f"{source}: [[step]] {index}")
        for index, row in enumerate(data.get("step", []))
    ]
    total = sum(end - start for node in nodes.values() for start, end in node.memory)
    if total > MAX_MEMORY:
        raise SpecError(f"{source}: {total} bytes of memory, more than {MAX_MEMORY}")
    return Spec(
        title=data.get("title", source),
        shows=data.get("shows", ""),
        generation=generation,
        machine=machine,
        nodes=nodes,
        boot_pages=tuple(pages),
        steps=tuple(steps),
        faults=tuple(data.get("faults", [])),
        seed=data.get("seed", 0),
        source=source,
    )


def build(spec: Spec) -> Machine:
    """Boot the machine and go through its steps; SpecError names a step that fails."""
    try:
        machine = Machine(
            spec.generation,
            spec.nodes,
            boot_pages=list(spec.boot_pages),
            title=spec.title,
            **spec.machine,
        )
    except ValueError as error:
        raise SpecError(f"{spec.source}: {error}") from error
    for index, (name, arguments) in enumerate(spec.steps):
        try:
            getattr(machine, name)(**arguments)
        except ValueError as error:
            raise SpecError(
                f"{spec.source}: [[step]] {index} ({name}): {error}"
            ) from error
    return machine


def samples() -> dict[str, Path]:
    """The machine descriptions that come with the project, by name."""
    here = Path(__file__).resolve()
    for directory in (here.parents[1] / "vmcores", here.parents[2] / "vmcores"):
        found = {path.stem: path for path in sorted(directory.glob("*.toml"))}
        if found:
            return found
    return {}


def _check(data: Any, keys: Mapping[str, Any], place: str) -> None:
    if not isinstance(data, Mapping):
        raise SpecError(f"{place}: a table was expected")
    for key, value in data.items():
        if key not in keys:
            raise SpecError(f"{place}: no key {key!r}; there are {', '.join(keys)}")
        kinds = keys[key]
        # A TOML boolean is no number, though Python's is.
        if not isinstance(value, kinds) or (
            isinstance(value, bool) and kinds is not bool
        ):
            raise SpecError(f"{place}: {key} has the wrong type: {value!r}")
        if kinds is int and key not in _FREE_NUMBERS and not 0 <= value <= MAX_COUNT:
            if key == "pfn" and 0 <= value < MAX_ADDRESS >> 12:
                continue
            raise SpecError(f"{place}: {key} is {value}, not from 0 to {MAX_COUNT}")


def _size(value: int | str, place: str) -> int:
    try:
        size = parse_size(value)
    except ValueError as error:
        raise SpecError(f"{place}: {error}") from None
    if not 0 <= size <= MAX_ADDRESS:
        raise SpecError(f"{place}: {value!r} is not from 0 to 64T")
    return size


def _range(text: Any, place: str) -> tuple[int, int]:
    if not isinstance(text, str) or text.count("-") != 1:
        raise SpecError(f"{place}: a range is text such as 4G-8G, not {text!r}")
    start, end = (_size(part, place) for part in text.split("-"))
    if start >= end:
        raise SpecError(f"{place}: the range {text!r} is empty")
    return start, end


def _step(row: Any, place: str) -> tuple[str, Mapping[str, Any]]:
    if not isinstance(row, Mapping) or row.get("do") not in STEPS:
        raise SpecError(f"{place}: do must be one of {', '.join(STEPS)}")
    name = row["do"]
    arguments = {key: value for key, value in row.items() if key != "do"}
    signature = inspect.signature(getattr(Machine, name))
    try:
        signature.bind(None, **arguments)
    except TypeError as error:
        raise SpecError(f"{place}: {name}: {error}") from None
    kinds = {key: signature.parameters[key].annotation for key in arguments}
    _check(arguments, {k: _ARGUMENTS[kind] for k, kind in kinds.items()}, place)
    for key, kind in kinds.items():
        if kind == "Size":
            _size(arguments[key], f"{place}: {key}")
    return name, arguments
