# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/check.md says of each rule and known issue what the code says."""

from __future__ import annotations

from .harmless import section_of_docs, written_section
from .reference_page import reference, written


def test_the_page_has_every_rule_as_it_is_explained() -> None:
    assert written() == reference(), "python -m tests.analysis.check.reference_page"


def test_the_page_lists_what_is_not_found_as_the_tests_do() -> None:
    assert written_section() == section_of_docs()
