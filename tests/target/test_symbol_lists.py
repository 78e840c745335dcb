# SPDX-License-Identifier: LGPL-2.1-or-later
"""Symbols from System.map, or from /proc/kallsyms as it was at another boot."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Callable

import pytest

from vmemmap_tools.target.base import TargetError
from vmemmap_tools.target.symbol_lists import is_symbol_list, read_symbol_list
from vmemmap_tools.target.vmcoreinfo import VmcoreInfo

LINK, MOVE = 0xFFFFFFFF81000000, 0x2E400000
LIST = f"""\
0000000000000000 A fixed_percpu_data
000000000001a0c0 d cpu_number
{LINK:x} T _text
{LINK:x} T _stext
{LINK + 0x2507C80:x} D init_uts_ns
{LINK + 0x2600000:x} b hstates
{LINK + 0x2600008:x} D vmemmap_base
{LINK + 0x2800000:x} B _end
"""


def note(**symbols: int) -> VmcoreInfo:
    return VmcoreInfo("".join(f"SYMBOL({n})={a:x}\n" for n, a in symbols.items()))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "System.map"
    found.write_text(LIST)
    return found


@pytest.mark.parametrize("move", [0, MOVE, -0x1000000])
def test_symbols_are_where_vmcoreinfo_has_the_others(path: Path, move: int) -> None:
    info = note(_stext=LINK + move, init_uts_ns=LINK + 0x2507C80 + move)
    found = read_symbol_list(str(path), info)
    assert found.symbol("hstates") == LINK + 0x2600000 + move
    assert found.symbol("cpu_number") == 0x1A0C0, "an offset in each CPU's area"
    assert found.symbol("jiffies") is None
    (fact,) = found.evidence()
    assert (fact.value, fact.source) == ("symbol list", str(path))


def test_the_list_of_another_build_is_refused(path: Path) -> None:
    info = note(_stext=LINK + MOVE, init_uts_ns=LINK + 0x2507CC0 + MOVE)
    with pytest.raises(TargetError, match="of another build than the kernel"):
        read_symbol_list(str(path), info)


def test_a_list_that_shares_nothing_with_vmcoreinfo_is_refused(path: Path) -> None:
    with pytest.raises(TargetError, match="names none of the symbols"):
        read_symbol_list(str(path), note(prb=LINK))


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (lambda line: " T " in line or " A " in line, "lists no init_uts_ns"),
        (lambda line: "_end" not in line, "lists no _end"),
    ],
)
def test_a_part_of_a_list_is_refused(
    path: Path, keep: Callable[[str], bool], message: str
) -> None:
    # What is not listed would be denied: "no hugetlb pool" on a machine full of them.
    path.write_text("".join(filter(keep, LIST.splitlines(keepends=True))))
    info = note(_stext=LINK + MOVE, init_uts_ns=LINK + 0x2507C80 + MOVE)
    with pytest.raises(TargetError, match=message):
        read_symbol_list(str(path), info)


def test_a_list_with_hidden_addresses_is_refused(path: Path) -> None:
    path.write_text(re.sub("^[0-9a-f]+", "0" * 16, LIST, flags=re.MULTILINE))
    with pytest.raises(TargetError, match="shows no addresses"):
        read_symbol_list(str(path), note(_stext=LINK))


def test_a_list_is_told_by_its_first_line(tmp_path: Path, path: Path) -> None:
    assert is_symbol_list(str(path))
    for content in (b"", b"\x7fELF", b"ffffffff81000000", b"OSRELEASE=7.3\n"):
        other = tmp_path / "other"
        other.write_bytes(content)
        assert not is_symbol_list(str(other))
    assert not is_symbol_list(str(tmp_path / "gone"))
