# SPDX-License-Identifier: LGPL-2.1-or-later
"""Damaged pointers that lead into frames of every type: what is there stays out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.capsule.strings import strings_of
from tests.model.image_target import image_target
from tests.model.kernels import varied
from vmemmap_tools.capsule import Capsule, capture, write_elf
from vmemmap_tools.capsule.kinds import FRAMES, KINDS
from vmemmap_tools.cli.capsule import _ask
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.model.image import Image
from vmemmap_tools.model.templates import page_type

PAGE = 4096
MARK = b"secret of a user"
ADDRESS = 0x000FFFFFFFFFF000
NO_TYPE = 0xFFFFFFFF
RESERVED = "reserved"
HEAP_STATES = ("slab", "compound")

REASONS = {
    "slab": "slab",
    "buddy": "buddy",
    "offline": "offline",
    "table": "table",
    "lru": "on an LRU list",
    "anon": "mapping",
    "charged": "memory cgroup",
    "compound": "compound",
}
"""What a frame's struct page is made to say -> a word of the reason."""


def say(image: Image, pfn: int, state: str) -> None:
    """Let a frame's struct page say what the frame is used for."""
    page = image.page(pfn)

    def flag(name: str) -> None:
        page.set("flags", page.get("flags") | 1 << image.types.enumerator(name))

    page.set("flags", page.get("flags") & ~(1 << image.types.enumerator("PG_reserved")))
    page.set("_refcount", 1)
    page.set("page_type", NO_TYPE)
    if state in ("slab", "buddy", "offline", "table"):
        value = page_type(image.core, state)
        assert value is not None
        page.set("page_type", value)
    elif state == "lru":
        flag("PG_lru")
    elif state == "anon":
        page.set("mapping", image.direct(0x100) | 1)
    elif state == "charged":
        page.set("memcg_data", image.direct(0x101) | 2)
    elif state == "compound":
        flag("PG_head")
    elif state == "reserved":
        flag("PG_reserved")


def plain_frames(image: Image) -> Iterator[int]:
    """Frames of which the struct page says nothing, and which nobody reads."""
    kernel = Kernel(image_target(image))
    read = set(capture(image_target(image), _ask).store.frames())
    for section in kernel.sections:
        for pfn in range(section.start_pfn, section.start_pfn + 0x8000, 64):
            page = kernel.pages.page(pfn)
            if page.is_poisoned or page.is_tail or pfn in read:
                continue
            if kernel.pages.type_name(page) in (None, "buddy"):
                yield pfn


@pytest.fixture(scope="module")
def damaged() -> tuple[Image, dict[str, int], dict[str, int]]:
    """An image whose pointers lead into frames of every state.

    With {state: frame} of what leaves of the vmemmap lead to, and roots of mem_section.
    """
    image = varied("7.3").image()
    free = plain_frames(image)
    leaves = {state: next(free) for state in [*REASONS, RESERVED]}
    roots = {state: next(free) for state in REASONS if state not in HEAP_STATES}
    folios = list(Kernel(image_target(image)).hugetlb.folios())
    for number, frame in enumerate(leaves.values()):
        vmemmap_page = image.core.vmemmap.page_of(folios[number].pfn)
        place = image.pte_pa(vmemmap_page)
        image.write64(place, image.read64(place) & ~ADDRESS | frame * PAGE)
    variable = image_target(image).variable("mem_section")
    assert variable is not None
    base = int.from_bytes(image_target(image).read(variable.address, 8), "little")
    for number, frame in enumerate(roots.values()):
        root = base - image.direct(0) + 8 * (16 + number)
        assert image.read64(root) == 0
        image.write64(root, image.direct(frame))
    for found in (leaves, roots):
        for state, frame in found.items():
            say(image, frame, state)
            image.memory.write(frame * PAGE, MARK * (PAGE // len(MARK)))
    return image, leaves, roots


@pytest.fixture(scope="module")
def capsule(damaged: tuple[Image, dict[str, int], dict[str, int]]) -> Capsule:
    return capture(image_target(damaged[0]), _ask)


def test_what_a_damaged_pointer_leads_to_is_withheld_and_named(
    damaged: tuple[Image, dict[str, int], dict[str, int]], capsule: Capsule
) -> None:
    _, leaves, _ = damaged
    expected = {leaves[state]: word for state, word in REASONS.items()}
    for frame, word in expected.items():
        assert word in capsule.withheld[frame], hex(frame)
        assert not capsule.store.pieces(frame)
    assert not any(capsule.store.pieces(frame) for frame in damaged[2].values())


def test_a_reserved_frame_is_not_withheld_for_being_reserved(
    damaged: tuple[Image, dict[str, int], dict[str, int]], capsule: Capsule
) -> None:
    assert damaged[1][RESERVED] not in capsule.withheld


def test_nothing_of_these_frames_is_in_the_file(
    damaged: tuple[Image, dict[str, int], dict[str, int]],
    capsule: Capsule,
    tmp_path: Path,
) -> None:
    _, leaves, _ = damaged
    capsule.store.drop([leaves[RESERVED]])
    with (tmp_path / "elf").open("w+b") as file:
        write_elf(capsule, file)
    assert MARK not in (tmp_path / "elf").read_bytes()


def test_every_kind_has_its_frames() -> None:
    assert set(FRAMES) == set(KINDS)


def test_a_capsule_has_no_string_but_those_that_it_lists(tmp_path: Path) -> None:
    image = varied("7.3").image()
    target = image_target(image)
    capsule = capture(target, _ask)
    with (tmp_path / "elf").open("w+b") as file:
        write_elf(capsule, file)
    listed = {text for _, text in capsule.strings}
    assert listed >= {"Normal", "DMA32", "Movable", "Device"}
    assert strings_of(tmp_path / "elf") - {target.release} <= listed


@pytest.mark.parametrize("with_identity", [False, True])
def test_the_host_name_goes_in_only_where_it_was_asked_for(
    with_identity: bool, tmp_path: Path
) -> None:
    image = varied("7.3").image()
    target = image_target(image)
    uts, address = target.struct("uts_namespace"), target.symbol("init_uts_ns")
    assert uts is not None and address is not None
    place = Kernel(target).page_table.translate(address + uts.offset("name.nodename"))
    assert place is not None
    image.memory.write(place.pa, b"private-host\0of-another\0")
    capsule = capture(target, lambda kernel: None, with_identity=with_identity)
    with (tmp_path / "elf").open("w+b") as file:
        write_elf(capsule, file)
    content = (tmp_path / "elf").read_bytes()
    assert (b"private-host" in content) is with_identity
    assert b"of-another" not in content
