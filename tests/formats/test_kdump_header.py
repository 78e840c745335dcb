# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether a kdump file is whole, told from its header and descriptors."""

from __future__ import annotations

import io
import struct

import pytest

from vmemmap_tools.formats.kdump_header import KdumpError, KdumpHeader

BLOCK = 4096
DATA = 5 * BLOCK
ZERO, FULL = 16, 1000


def kdump(pages: str) -> bytes:
    """A file of "z" (zero) and "d" (data) pages; zero pages share the first data."""
    head = bytearray(BLOCK)
    head[:8] = b"KDUMP   "
    head[12:17] = b"Linux"
    struct.pack_into("<IiiI", head, 424, 0, BLOCK, 1, 2)
    bits = ((1 << len(pages)) - 1).to_bytes(BLOCK, "little")
    end = DATA + ZERO
    table = bytearray()
    for kind in pages:
        if kind == "z":
            table += struct.pack("<QIIQ", DATA, ZERO, 0, 0)
        else:
            table += struct.pack("<QIIQ", end, FULL, 0, 0)
            end += FULL
    front = bytes(head) + bytes(BLOCK) + bits + bits + bytes(table)
    return front.ljust(end, b"\xff")


def missing(data: bytes) -> int:
    file = io.BytesIO(data)
    return KdumpHeader.read(file).missing_bytes(file)


@pytest.mark.parametrize("pages", ["d", "zd", "zdz", "zddzzz", "z", "zz"])
def test_a_whole_file_misses_nothing(pages: str) -> None:
    assert missing(kdump(pages)) == 0


@pytest.mark.parametrize("pages", ["d", "zd", "zdz", "zddzzz", "z"])
def test_a_byte_less_is_noticed_wherever_zero_pages_lie(pages: str) -> None:
    assert missing(kdump(pages)[:-1]) == 1


def test_a_file_cut_within_its_descriptors_is_noticed() -> None:
    assert missing(kdump("zd")[: 4 * BLOCK + 30]) == 18


def test_a_file_cut_within_its_header_is_called_truncated() -> None:
    with pytest.raises(KdumpError, match="truncated"):
        KdumpHeader.read(io.BytesIO(kdump("d")[:100]))
