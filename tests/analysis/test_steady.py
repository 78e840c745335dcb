# SPDX-License-Identifier: LGPL-2.1-or-later
"""Readings of a kernel that changes are taken again, but not for ever."""

from __future__ import annotations

import pytest

from tests.model.kernels import small
from vmemmap_tools.analysis.steady import ATTEMPTS, read_steadily, restless
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.target.base import Fault
from vmemmap_tools.target.drgn import DrgnTarget

from .moving import Moving, States


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> tuple[DrgnTarget, DrgnTarget]:
    """One machine with 4 huge pages, then with 6."""
    states = States(tmp_path_factory.mktemp("states"))
    machine = small("7.3").hugetlb_alloc("2M", 4)
    four = states.capture(machine)
    return four, states.capture(machine.hugetlb_alloc("2M", 2))


def pages(kernel: Kernel) -> int:
    return len(kernel.hugetlb.folios())


def test_a_dump_is_read_once_and_nothing_said_of_it(
    pools: tuple[DrgnTarget, DrgnTarget],
) -> None:
    kernel = Kernel(pools[0])
    reading = read_steadily(kernel, pages)
    assert (reading.answer, reading.totals(), restless(reading)) == (4, {}, [])
    assert reading.kernel is kernel


def test_a_kernel_that_stands_still_is_read_once(
    pools: tuple[DrgnTarget, DrgnTarget],
) -> None:
    target = Moving(pools[:1])
    reading = read_steadily(Kernel(target), pages)
    assert (reading.answer, reading.totals()) == (4, {"stood_still": True})
    assert target.taken == 2


def test_a_kernel_that_changed_is_read_again(
    pools: tuple[DrgnTarget, DrgnTarget],
) -> None:
    four, six = pools
    target = Moving([four, six])
    reading = read_steadily(Kernel(target), pages)
    assert (reading.answer, reading.stood_still) == (6, True)
    assert restless(reading) == []


def test_a_kernel_that_never_stops_gets_an_answer_with_a_word_about_it(
    pools: tuple[DrgnTarget, DrgnTarget],
) -> None:
    target = Moving(pools * (2 * ATTEMPTS))
    reading = read_steadily(Kernel(target), pages)
    assert reading.totals() == {"stood_still": False}
    assert reading.answer in (4, 6)
    assert target.taken == 2 * ATTEMPTS
    (line,) = restless(reading)
    assert "not of one moment" in line


def test_memory_that_vanishes_under_the_reader_is_read_again(
    pools: tuple[DrgnTarget, DrgnTarget],
) -> None:
    faults = [Fault(0, 8, "outside", physical=True)] * 2

    def read(kernel: Kernel) -> int:
        if faults:
            raise faults.pop()
        return pages(kernel)

    reading = read_steadily(Kernel(Moving(pools[:1])), read)
    assert (reading.answer, reading.stood_still) == (4, True)


def test_memory_that_never_comes_back_is_an_error(
    pools: tuple[DrgnTarget, DrgnTarget],
) -> None:
    readings = 0

    def read(kernel: Kernel) -> int:
        nonlocal readings
        readings += 1
        raise Fault(0, 8, "outside", physical=True)

    with pytest.raises(Fault):
        read_steadily(Kernel(Moving(pools[:1])), read)
    assert readings == ATTEMPTS
