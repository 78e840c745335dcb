# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest's twin: the model's machine of the configuration that its record shows.

Memory map, pools and devices are taken from what the guest said of itself, never from
what the tool says. Where the kernel had a choice (which node a page came from, whether
there was memory for a 1G page) the twin makes the same one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vmemmap_tools.model.spec import Spec, parse

from .expect import GIANT, LARGE, has_hvo
from .truth import Pool, Truth
from .walk import BASE_SIZE

__all__ = ["generation_of", "spec_of"]


def generation_of(truth: Truth) -> str:
    """The model's generation that lays out memory as this kernel does.

    Kernels without counters of the memmap are as 6.1; those that count optimised folios
    in a static key as 6.12; those after it share tails in the zone.
    """
    if truth.nr_memmap_pages is None:
        return "6.1"
    return "6.12" if "hugetlb_optimize_vmemmap_key" in truth.kallsyms else "7.3"


def spec_of(truth: Truth) -> Spec:
    """Describe the guest's twin, as a machine description in TOML would."""
    return parse(
        {
            "title": f"twin of {truth.release}",
            "generation": generation_of(truth),
            "machine": {"levels": 5 if truth.has_la57 else 4, "hvo": has_hvo(truth)},
            "node": list(_nodes(truth)),
            "boot_page": list(_boot_pages(truth)),
            "step": [*_pool_steps(truth), *_device_steps(truth), *_use_steps(truth)],
        },
        "twin",
    )


def _nodes(truth: Truth) -> Iterator[dict[str, Any]]:
    """Each node's RAM as boot saw it: by ``/proc/iomem``, nodes by memory blocks."""
    per_block = truth.block_size
    node_of = {b.number: b.nodes[0] for b in truth.memory_blocks if b.nodes}
    memory: dict[int, list[str]] = {}
    for entry in truth.iomem:
        if entry.name != "System RAM" or entry.depth:
            continue
        start = -(-entry.start // BASE_SIZE) * BASE_SIZE
        end = (entry.end + 1) // BASE_SIZE * BASE_SIZE
        # A range of the memory map may reach over the border of two nodes.
        while start < end:
            node = node_of[start // per_block]
            stop = start
            while stop < end and node_of.get(stop // per_block) == node:
                stop = (stop // per_block + 1) * per_block
            stop = min(stop, end)
            memory.setdefault(node, []).append(f"{start:#x}-{stop:#x}")
            start = stop
    for node, ranges in sorted(memory.items()):
        yield {"id": node, "memory": ranges}


def _boot_pages(truth: Truth) -> Iterator[dict[str, Any]]:
    nodes = [pool.node for pool in _pools(truth, GIANT) for _ in range(pool.total)]
    tails = [run for run in truth.page_runs if run.kind == "huge-tail"]
    heads = [r.start_pfn - 1 for r in tails if r.pages + 1 == GIANT // BASE_SIZE]
    for node, pfn in zip(nodes, sorted(heads)):
        yield {"size": GIANT, "node": node, "pfn": pfn}


def _pool_steps(truth: Truth) -> Iterator[dict[str, Any]]:
    """The record's steps; one called "plain" was made with the policy off."""
    before = [0] * len(truth.steps[0].per_node)
    for step in truth.steps:
        is_plain = step.name.endswith("-plain")
        if is_plain:
            yield {"do": "set_hvo", "on": False}
        for node, (old, new) in enumerate(zip(before, step.per_node)):
            if new != old:
                verb = "hugetlb_alloc" if new > old else "hugetlb_free"
                yield {"do": verb, "size": LARGE, "count": abs(new - old), "node": node}
        if is_plain:
            yield {"do": "set_hvo", "on": True}
        before = list(step.per_node)


def _device_steps(truth: Truth) -> Iterator[dict[str, Any]]:
    for space in truth.namespaces:
        name = f"region{space.region}"
        yield {
            "do": "dax_add",
            "name": name,
            "start": space.start_pfn * BASE_SIZE,
            "size": (space.end_pfn - space.start_pfn) * BASE_SIZE,
            "align": space.align or LARGE,
            "altmap": space.has_altmap,
            "fsdax": space.owner == "fsdax",
            "dumped": True,
        }
        if space.owner == "kmem":
            yield {"do": "dax_to_kmem", "name": name}


def _use_steps(truth: Truth) -> Iterator[dict[str, Any]]:
    for size in (LARGE, GIANT):
        for pool in _pools(truth, size):
            if pool.total > pool.free:
                yield {
                    "do": "hugetlb_use",
                    "size": size,
                    "count": pool.total - pool.free,
                    "node": pool.node,
                }


def _pools(truth: Truth, size: int) -> list[Pool]:
    """The pools of this size, one a node."""
    pools = [p for p in truth.hugetlb if p.size == size and p.node is not None]
    return sorted(pools, key=lambda pool: pool.node or 0)
