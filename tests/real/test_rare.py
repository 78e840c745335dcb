# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rare guests came to be in the states that they are booted for."""

from __future__ import annotations

import pytest

from .compare import Compare
from .expect import GIANT, LARGE, PAGES_PER_SECTION, boot_pages, selfhosted_areas
from .truth import Truth
from .walk import BASE_SIZE

pytestmark = pytest.mark.rare


@pytest.mark.variants("hosted", "removed", "pools")
def test_nothing_that_was_attempted_failed(truth: Truth, compare: Compare) -> None:
    lines = truth.parts["attempts"].splitlines()
    assert lines, "nothing was attempted"
    failed = [line for line in lines if line.startswith("failed")]
    compare.equal("guest: attempts that failed", failed, [], f"of {len(lines)}")


@pytest.mark.variants("pools")
def test_a_gigantic_page_was_made_and_demoted_and_pages_are_surplus(
    truth: Truth, compare: Compare
) -> None:
    counts = [x for x in truth.parts["attempts"].splitlines() if x.startswith("1G")]
    compare.equal(
        "guest: 1G pages after giving back and making one",
        counts,
        ["1G pages 0 0", "1G pages 0 1"],
    )
    assert boot_pages(truth, "1.00 GiB"), "none could be given back"
    steps = {step.name: step.per_node[1] for step in truth.steps}
    made = steps["demote-node1"] - steps["shrink-8-node0"]
    compare.equal("guest: 2M pages of the demoted one", made, GIANT // LARGE)
    compare.equal("guest: surplus 2M pages", truth.pool(LARGE).surplus, 6)


@pytest.mark.variants("hosted")
def test_blocks_host_their_own_memmap_and_one_is_offline(
    truth: Truth, compare: Compare
) -> None:
    hosting = {area.start // PAGES_PER_SECTION for area in selfhosted_areas(truth)}
    blocks = {block.number: block.state for block in truth.memory_blocks}
    states = sorted(blocks[number] for number in hosting)
    compare.equal(
        "guest: blocks that host their memmap", states, ["offline", "online", "online"]
    )


@pytest.mark.variants("removed")
def test_memory_went_offline_and_a_device_is_one_again(
    truth: Truth, compare: Compare
) -> None:
    offline = sum(not block.is_online for block in truth.memory_blocks)
    compare.equal("guest: blocks of RAM offline", offline, 1)
    driver = truth.dax_devices["dax1.0"].driver
    compare.equal("guest: driver of dax1.0 after kmem", driver, "device_dax")


@pytest.mark.variants("partial")
def test_devices_end_inside_sections_without_ram(
    truth: Truth, compare: Compare
) -> None:
    pages = truth.block_size // BASE_SIZE
    ram = {
        block.phys_index * pages // PAGES_PER_SECTION for block in truth.memory_blocks
    }
    ends = {
        space.end_pfn // PAGES_PER_SECTION
        for space in truth.namespaces
        if space.end_pfn % PAGES_PER_SECTION
    }
    compare.equal("guest: sections that devices fill in part", len(ends - ram), 2)


@pytest.mark.variants("uma")
def test_there_is_one_node(truth: Truth, compare: Compare) -> None:
    compare.equal("guest: nodes", {zone.node for zone in truth.zones}, {0})
