# SPDX-License-Identifier: LGPL-2.1-or-later
"""Long passes tell how far they are; without a door that asks they tell nobody."""

from __future__ import annotations

from collections import Counter
from types import TracebackType

from tests.analysis.machines import busy
from vmemmap_tools.kernel.kernel import Kernel


class Bars:
    """Counts the units of each bar."""

    def __init__(self) -> None:
        self.units: Counter[str] = Counter()
        self.totals: dict[str, int | None] = {}

    def __call__(self, label: str, total: int | None) -> Bar:
        self.totals[label] = total
        return Bar(self.units, label)


class Bar:
    def __init__(self, units: Counter[str], label: str) -> None:
        self._units, self._label = units, label

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def update(self, n: int) -> None:
        self._units[self._label] += n


def test_the_pass_over_the_tables_and_the_search_for_folios_are_counted() -> None:
    m = busy()
    m.write_sections()
    bars = Bars()
    kernel = Kernel(m.target, bars)
    assert len(kernel.hugetlb.folios()) == 3
    vmemmap = kernel.vmemmap
    tables = "reading the vmemmap's page tables"
    assert bars.units[tables] == vmemmap.leaf_tables + vmemmap.huge_leaves
    assert bars.totals[tables] is None
    assert bars.units["looking for huge pages"] == len(kernel.sections)
    assert bars.totals["looking for huge pages"] == len(kernel.sections)


def test_a_second_reading_is_counted_by_the_same_door() -> None:
    m = busy()
    m.write_sections()
    bars = Bars()
    Kernel(m.target, bars).fresh().vmemmap  # noqa: B018
    assert bars.units["reading the vmemmap's page tables"] > 0
