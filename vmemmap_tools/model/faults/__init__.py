# SPDX-License-Identifier: LGPL-2.1-or-later
"""Named, seeded, composable corruptions, each imitating a kernel bug.

``apply(image, ["tail-writable", "counter-drift"], seed=1)`` plants them in a finished
image. `FAULTS` describes all of them.
"""

from __future__ import annotations

from vmemmap_tools.model.faults import counters, devices, folios, sections, tails
from vmemmap_tools.model.faults.registry import (
    FAULTS,
    Fault,
    NotApplicable,
    Planted,
    apply,
)

__all__ = ["FAULTS", "Fault", "NotApplicable", "Planted", "apply", "rooms"]

rooms = (sections, tails, folios, counters, devices)
"""Importing them is what registers their faults."""
