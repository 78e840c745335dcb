# SPDX-License-Identifier: LGPL-2.1-or-later
"""The memory image of a machine: every kernel object at an address, ready to be dumped.

`make_image` freezes a machine. Faults change the image, never the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmemmap_tools.model.image.base import Image
from vmemmap_tools.model.image.blocks import write_blocks
from vmemmap_tools.model.image.devices import write_devices
from vmemmap_tools.model.image.hugetlb import write_hugetlb
from vmemmap_tools.model.image.kernel import write_kernel, write_mms
from vmemmap_tools.model.image.nodes import write_nodes
from vmemmap_tools.model.image.sections import mark_slabs, write_sections
from vmemmap_tools.model.image.tables import add_vmemmap, map_memory
from vmemmap_tools.model.pages import StructPages

if TYPE_CHECKING:
    from vmemmap_tools.model.machine import Machine

__all__ = ["Image", "make_image"]


def make_image(machine: Machine) -> Image:
    """Lay out a machine's memory as a dump finds it now."""
    image = Image(machine)
    write_kernel(image)
    free_links, orders = write_nodes(image)
    folio_links = write_hugetlb(image)
    pages = StructPages(machine, folio_links, free_links, orders)
    write_sections(image, pages.templates)
    write_blocks(image)
    pages.pgmap_va.update(write_devices(image))
    map_memory(image)
    add_vmemmap(image, pages)
    write_mms(image)
    mark_slabs(image, pages.templates)
    image.facts.update(image.late_facts())
    return image
