# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/check.md says of each rule and known issue what the code says."""

from __future__ import annotations

from .reference_page import reference, written


def test_the_page_has_every_rule_as_it_is_explained() -> None:
    assert written() == reference(), "python -m tests.analysis.check.reference_page"
