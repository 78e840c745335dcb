# SPDX-License-Identifier: LGPL-2.1-or-later
"""The VMCOREINFO text (kernel-reference.md 9.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmemmap_tools.target.vmcoreinfo import VmcoreInfo, VmcoreInfoError

TEXT = """OSRELEASE=7.3-cloud-amd64
SYMBOL(vmemmap)=ffffea0000000000
NUMBER(phys_base)=-16777216
NUMBER(sme_mask)=0x800000000000
LENGTH(mem_section)=2048
SIZE(page)=64
OFFSET(page.flags)=0
CRASHTIME=
no key here
LINE=a=b
"""


def test_each_kind_of_key_is_a_number_of_its_base() -> None:
    info = VmcoreInfo(TEXT)
    assert info.symbol("vmemmap") == 0xFFFFEA0000000000
    assert info.number("phys_base") == -16777216
    assert info.number("sme_mask") == 1 << 47
    assert (info.length("mem_section"), info.size("page")) == (2048, 64)
    assert info.offset("page.flags") == 0


def test_absent_keys_are_none() -> None:
    info = VmcoreInfo(TEXT)
    assert info.symbol("mem_section") is None
    assert info.get("NUMBER(x)") is None and "NUMBER(x)" not in info


def test_values_may_be_empty_or_hold_the_sign() -> None:
    info = VmcoreInfo(TEXT)
    assert info["CRASHTIME"] == "" and info["LINE"] == "a=b"
    assert len(info) == len(list(info)) == 9


def test_a_value_that_is_no_number_is_an_error_that_names_it() -> None:
    with pytest.raises(VmcoreInfoError, match="NUMBER"):
        VmcoreInfo("NUMBER(phys_base)=many\n").number("phys_base")


@pytest.mark.parametrize(
    ("release", "patched"),
    [
        ("7.3-cloud-amd64", "7.3.0-cloud-amd64"),
        ("7.3", "7.3.0"),
        ("7.3.4-amd64", None),
        ("6.1.0-49-amd64", None),
        ("next-20260101", None),
    ],
)
def test_a_release_without_a_third_number_gets_one_for_libkdumpfile(
    release: str, patched: str | None
) -> None:
    text = VmcoreInfo(f"OSRELEASE={release}\nPAGESIZE=4096\n").with_patch_level()
    assert text == (patched and f"OSRELEASE={patched}\nPAGESIZE=4096\n")


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    info = VmcoreInfo(text)
    assert all("=" not in key for key in info)
    info.with_patch_level()
