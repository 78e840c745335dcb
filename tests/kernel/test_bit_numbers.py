# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bit numbers that no word has are damage, before anything is shifted by them."""

from __future__ import annotations

import pytest

from tests.analysis.machines import busy
from vmemmap_tools.kernel.bit_numbers import bit_number, bit_numbers
from vmemmap_tools.target.base import TargetError

ABSURD = [-5, -1, 65, 1 << 32, 1 << 63]


@pytest.mark.parametrize("value", ABSURD)
def test_a_bit_number_outside_a_word_is_refused(value: int) -> None:
    m = busy()
    m.target.enums["pageflags"] = {"PG_reserved": value}
    with pytest.raises(TargetError, match=f"PG_reserved is {value}"):
        bit_numbers(m.target, "pageflags")


def test_a_bit_number_of_a_word_is_taken() -> None:
    m = busy()
    m.target.enums["pageflags"] = {"PG_reserved": 63}
    assert bit_number(m.target, "PG_reserved") == 63
    assert bit_number(m.target, "PG_of_no_kernel") is None
