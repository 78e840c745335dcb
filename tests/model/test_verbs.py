# SPDX-License-Identifier: LGPL-2.1-or-later
"""The verbs on synthetic dumps of every generation equal the model's own books."""

from __future__ import annotations

from typing import Callable

import pytest

from tests.model.answers import COMPARISONS, Booked
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.model import spec
from vmemmap_tools.target.drgn_open import open_dump

SAMPLES = sorted(set(spec.samples()) - {"terabyte"})
"""The terabyte sample takes longer to build than all others together."""


COMPRESSED = ("two-node", "five-level")
"""Those whose kdump-compressed form is asked too: four levels of tables, and five."""

DUMPS = [
    *((name, "vmcore") for name in SAMPLES),
    *((name, "vmcore.kdump") for name in COMPRESSED),
]


@pytest.fixture(scope="module", params=DUMPS, ids="-".join)
def dump(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Booked:
    """A sample, written and opened."""
    name, form = request.param
    directory = tmp_path_factory.mktemp(name)
    machine = spec.build(spec.load(spec.samples()[name]))
    machine.write(directory, kdump=form.endswith("kdump"))
    target = open_dump(str(directory / form), [str(directory / "vmlinux")])
    return Booked(Kernel(target), machine.books())


@pytest.mark.parametrize("comparison", COMPARISONS, ids=lambda found: found.__name__)
def test_answers_are_booked(dump: Booked, comparison: Callable[[Booked], None]) -> None:
    comparison(dump)
