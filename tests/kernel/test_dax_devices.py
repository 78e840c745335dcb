# SPDX-License-Identifier: LGPL-2.1-or-later
"""Dax devices among all devices, against the books of the machine that has them."""

from __future__ import annotations

from typing import Callable

import pytest

from tests.model.image_target import image_target
from tests.model.kernels import GENERATIONS, varied
from vmemmap_tools.kernel.dax_devices import DaxDevice
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.model.image import Image
from vmemmap_tools.model.objects import Object
from vmemmap_tools.target.base import Fault, Struct


def look(image: Image) -> tuple[Kernel, list[DaxDevice], list[Fault]]:
    kernel = Kernel(image_target(image))
    faults: list[Fault] = []
    return kernel, list(kernel.dax_devices.for_each(faults.append)), faults


@pytest.mark.parametrize("generation", GENERATIONS)
def test_devices_are_those_of_the_machine(generation: str) -> None:
    machine = varied(generation)
    image = machine.image()
    kernel, devices, faults = look(image)
    books = [p for p in machine.devices.pgmaps.values() if not p.fsdax]
    assert len(books) > 1 and faults == []
    assert [(d.name, d.align, d.ranges, d.pgmap_va) for d in devices] == [
        (
            f"dax{p.ident}.0",
            p.align,
            ((p.data_pfn, p.end_pfn),),
            image.pgmaps[p.name].va,
        )
        for p in books
    ]
    # One more is of no bus.
    assert len(kernel.dax_devices.list.entries) == len(books) + 1


def entry(obj: Object, member: str) -> str:
    return ("dev." if obj.tag == "dev_dax" else "") + f"kobj.entry.{member}"


def bend_to_itself(image: Image) -> str:
    last = list(image.dax_devices.values())[-1]
    last.set(entry(last, "next"), last.address(entry(last, "next")))
    return "a loop at "


def end_in_null(image: Image) -> str:
    last = list(image.dax_devices.values())[-1]
    last.set(entry(last, "next"), 0)
    return "a NULL next pointer after "


def lead_into_nowhere(image: Image) -> str:
    last = list(image.dax_devices.values())[-1]
    last.set(entry(last, "next"), 0xFFFFFE0000000000)
    return "a pointer to unmapped memory after "


@pytest.mark.parametrize("damage", [bend_to_itself, end_in_null, lead_into_nowhere])
def test_a_damaged_list_ends_and_says_why(damage: Callable[[Image], str]) -> None:
    image = varied("7.3").image()
    words = damage(image)
    kernel, devices, _ = look(image)
    assert len(devices) == len(image.dax_devices)
    assert (kernel.dax_devices.list.damage or "").startswith(words)


def test_the_number_of_ranges_is_bounded() -> None:
    image = varied("7.3").image()
    for device in image.dax_devices.values():
        device.set("nr_range", (1 << 31) - 1)
    _, devices, faults = look(image)
    assert not devices
    assert [fault.kind for fault in faults] == ["damaged"] * len(image.dax_devices)


def test_ranges_that_are_nowhere_are_told_not_guessed() -> None:
    image = varied("7.3").image()
    first, *others = image.dax_devices.values()
    first.set("ranges", 0x10)
    _, devices, faults = look(image)
    assert (len(devices), len(faults)) == (len(others), 1)


def test_without_types_or_symbols_it_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = varied("7.3").image()
    target = image_target(image)
    known: Callable[[str], Struct | None] = target.struct
    monkeypatch.setattr(
        target, "struct", lambda name: None if name == "dev_dax" else known(name)
    )
    assert Kernel(target).dax_devices.unknown == "no type dev_dax"
    del image.layout.table["dax_bus_type"]
    assert Kernel(image_target(image)).dax_devices.unknown == "no symbol dax_bus_type"
