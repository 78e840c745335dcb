# SPDX-License-Identifier: LGPL-2.1-or-later
"""The model against real kernels: a machine of the same configuration answers the same.

Everything in the verbs' JSON is compared but what `LEFT_TO_CHANCE` names, so that a new
field is compared unless somebody says why it cannot be.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import pytest

from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.model import spec
from vmemmap_tools.target.drgn_open import open_dump

from .compare import Compare
from .dumps import Dump
from .runs import Run
from .test_check import counts_whole_dax
from .twin import spec_of

ADDRESS = "an address that KASLR or an allocator chose"
FRAME = "a frame that an allocator chose"
NAME = "the kernel's name"
PLACE = "which sections the huge pages lie in was the buddy allocator's choice"
RESERVED = "how much the kernel reserved for itself at boot"

LEFT_TO_CHANCE: dict[str, dict[str, str]] = {
    "summary": {
        "kernel.release": NAME,
        "kernel.vmemmap_va": ADDRESS,
        "totals.huge_leaves": PLACE,
        "totals.base_leaves": PLACE,
        "totals.page_table_bytes": PLACE,
        "totals.net_ram_bytes": f"page tables are part of it: {PLACE}",
    },
    "hvo": {"kernel.release": NAME, "kernel.vmemmap_va": ADDRESS},
    "dax": {
        "kernel.release": NAME,
        "kernel.vmemmap_va": ADDRESS,
        "rows.pgmap_va": ADDRESS,
    },
    "sections": {
        "kernel.release": NAME,
        "kernel.vmemmap_va": ADDRESS,
        "rows.memmap_va": ADDRESS,
        "rows.huge_leaves": PLACE,
        "rows.base_leaves": PLACE,
        "rows.backing_frames": PLACE,
    },
    "zones": {
        "kernel.release": NAME,
        "kernel.vmemmap_va": ADDRESS,
        "rows.managed": RESERVED,
        "rows.tails.page_va": ADDRESS,
        "rows.tails.pfn": FRAME,
    },
}
"""Fields that the configuration does not decide, by verb, and why."""

COUNTED_WHOLE = {
    "kernel.features": "the model counts as kernels with dax-accounting-fixed do",
    "totals.nr_memmap_pages": "the surplus is what C3 of check tells",
}
"""Left out besides where a kernel counts whole device DAX ranges."""

VERBS = (("summary",), ("hvo",), ("dax",), ("sections",), ("zones", "--all"))


class Twin(Dump):
    """The dump of a run's twin."""

    @cached_property
    def kernel(self) -> Kernel:
        return Kernel(open_dump(str(self.path), [str(self.path.with_name("vmlinux"))]))


@pytest.fixture(scope="session")
def twin(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    """A machine of the run's configuration, written and opened."""
    directory = tmp_path_factory.mktemp("twin")
    spec.build(spec_of(run.truth())).write(directory)
    yield Twin(run, "twin", directory / "vmcore")
    (directory / "vmcore").unlink()


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_the_twin_answers_as_the_guest(
    dumps: dict[str, Dump], twin: Twin, compare: Compare, words: tuple[str, ...]
) -> None:
    chance = LEFT_TO_CHANCE[words[0]]
    if counts_whole_dax(dumps["elf"]):
        chance = {**chance, **COUNTED_WHOLE}
    ours = dict(_decided(twin.ask(*words), chance))
    judge = dict(_decided(dumps["elf"].ask(*words), chance))
    compare.equal(
        f"{' '.join(words)}: twin = real dump", ours, judge, f"{len(judge)} values"
    )


def test_the_twin_has_all_vmemmap_whatever_maps_it(
    dumps: dict[str, Dump], twin: Twin, compare: Compare
) -> None:
    """What maps a page is left to chance in each section, but not their number."""
    ours, judge = (
        sum(r["base_leaves"] + 512 * r["huge_leaves"] for r in dump.rows("sections"))
        for dump in (twin, dumps["elf"])
    )
    compare.equal("sections: vmemmap pages: twin = real dump", ours, judge)


def _decided(
    value: Any, chance: dict[str, str], path: str = "", name: str = ""
) -> Iterator[tuple[str, Any]]:
    """(place, value) of every leaf of a JSON answer that is not left to chance.

    ``path`` names a field, ``name`` the field of one row.
    """
    if path in chance:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _decided(
                inner, chance, f"{path}.{key}".lstrip("."), f"{name}.{key}"
            )
    elif isinstance(value, list):
        yield f"{name} entries", len(value)
        for i, inner in enumerate(value):
            yield from _decided(inner, chance, path, f"{name}[{i}]")
    else:
        yield name, value
