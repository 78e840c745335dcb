# SPDX-License-Identifier: LGPL-2.1-or-later
"""Variables of the kernel image: bases, banner, counters, policy, the mms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmemmap_tools.model.layouts.wanted import FUNCTIONS

if TYPE_CHECKING:
    from vmemmap_tools.model.image.base import Image

__all__ = ["write_kernel", "write_mms"]


def write_kernel(image: Image) -> None:
    """Place everything that depends on no other object."""
    core, layout, types = image.core, image.layout, image.types
    placement = core.placement
    start = core.arch.image_va
    for name in ("_text", "_stext"):
        layout.label(name, start)
    layout.label("_etext", start + (1 << 20))
    layout.label("_end", start + (8 << 20))
    layout.label("swapper_pg_dir", layout.table[core.arch.root_symbol].address)
    phys_base = layout.place("phys_base", None, 8)
    image.write64(phys_base.pa, image.phys_base)
    for name in FUNCTIONS:
        if types.has_function(name):
            layout.function(name)
    if "vmemmap_populate" not in layout.table:
        layout.function("vmemmap_populate")
    layout.variable("vmemmap_base", "unsigned long", placement.vmemmap_base)
    layout.variable("page_offset_base", "unsigned long", placement.page_offset)
    layout.variable("vmalloc_base", "unsigned long", placement.vmalloc_base)
    layout.variable(
        "__pgtable_l5_enabled", "unsigned int", int(placement.space.levels == 5)
    )
    layout.variable("sme_me_mask", "u64", image.encryption)
    last = max((n.end_pfn for n in core.nodes.values()), default=0)
    layout.variable("max_pfn", "unsigned long", last)
    layout.variable("max_low_pfn", "unsigned long", last)
    layout.variable("min_low_pfn", "unsigned long", 0)
    layout.variable("nr_cpu_ids", "unsigned int", 1)
    banner = f"Linux version {image.release} (model) #1\n"
    place = layout.place("linux_banner", f"char [{len(banner) + 1}]")
    image.memory.write(place.pa, banner.encode())
    uts = layout.place("init_uts_ns", "struct uts_namespace")
    for name, text in (
        ("sysname", "Linux"),
        ("nodename", "model"),
        ("release", image.release),
        ("version", "#1"),
        ("machine", core.arch.name),
    ):
        uts.set_text(f"name.{name}", text)
    command = image.heap.text("root=/dev/model")
    layout.variable("saved_command_line", "char *", command)
    if not types.has_enumerator("PGTY_buddy"):
        layout.place("vmap_area_list", "struct list_head")
    _write_policy(image)
    if core.generation.counters:
        for name, value in (
            ("nr_memmap_pages", core.nr_memmap),
            ("nr_memmap_boot_pages", core.nr_memmap_boot + core.page_ext_pages),
        ):
            image.variables[name] = layout.variable(
                name, "atomic_long_t", value, static=True
            )


def _write_policy(image: Image) -> None:
    """The switch of HVO, and the static key of the kernels that have one."""
    core, layout = image.core, image.layout
    generation = core.generation
    if generation.policy is not None:
        static = generation.policy == "vmemmap_optimize_enabled"
        layout.variable(generation.policy, "bool", int(core.hvo), static=static)
    if generation.static_key is None:
        return
    key = layout.place(generation.static_key, "struct static_key_false")
    if generation.static_key_counts == "folios":
        value = image.machine.hugetlb.optimised_count()
    else:
        value = int(core.hvo)
    key.set("key.enabled", value)
    image.variables[generation.static_key] = key


def write_mms(image: Image) -> None:
    """init_mm, and other mms with top-level tables of their own on pgd_list."""
    layout, types = image.layout, image.types
    init_mm = layout.place("init_mm", "struct mm_struct")
    init_mm.set("pgd", image.root_va)
    head = layout.place("pgd_list", "struct list_head")
    page_size = image.arch.page_size
    half = page_size // 2
    kernel = image.memory.read(image.tables.root_pfn * page_size + half, half)
    lru = types.offsetof("page.lru")
    nodes = [image.page_va(pfn) + lru for pfn in image.machine.pgd_frames]
    ring = [head.va, *nodes, head.va]
    head.set("next", ring[1])
    head.set("prev", ring[-2])
    owner = "ptdesc.pt_mm" if types.has("ptdesc.pt_mm") else "page.pt_mm"
    for index, pfn in enumerate(image.machine.pgd_frames):
        image.memory.write(pfn * page_size + half, kernel)
        mm = image.heap.object("mm_struct")
        mm.set("pgd", image.direct(pfn))
        page = image.page(pfn)
        page.set("lru.next", ring[index + 2])
        page.set("lru.prev", ring[index])
        image.write64(page.pa + types.offsetof(owner), mm.va)
        image.mms.append(mm)
        image.pgds.append(pfn)
