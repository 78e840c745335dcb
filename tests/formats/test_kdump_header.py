# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether a kdump file is whole, told from its header and descriptors."""

from __future__ import annotations

import contextlib
import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmemmap_tools.formats.kdump_header import KdumpError, KdumpHeader, KdumpPages

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


def opened(data: bytes) -> KdumpPages:
    file = io.BytesIO(data)
    return KdumpPages(file, KdumpHeader.read(file))


def missing(data: bytes) -> int:
    return opened(data).missing_bytes


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


def test_the_header_tells_version_system_and_sizes() -> None:
    data = bytearray(kdump("d"))
    struct.pack_into("<i", data, 8, 6)
    data[12 + 65 : 12 + 65 + 5] = b"host\0"
    data[12 + 130 : 12 + 130 + 8] = b"7.3-rc7\0"
    header = KdumpHeader.read(io.BytesIO(bytes(data)))
    assert header.version == 6
    assert header.utsname[:3] == ("Linux", "host", "7.3-rc7")
    assert (header.block_size, header.sub_header_blocks) == (4096, 1)
    assert header.bitmap_blocks == 2


def test_an_empty_utsname_is_seen() -> None:
    # What QEMU's dump-guest-memory leaves; libkdumpfile cannot read such a file.
    data = bytearray(kdump("d"))
    data[12 : 12 + 6 * 65] = bytes(6 * 65)
    assert KdumpHeader.read(io.BytesIO(bytes(data))).utsname == ("",) * 6


def test_bytes_that_are_no_text_are_replaced() -> None:
    data = bytearray(kdump("d"))
    data[12:16] = b"\xff\xfe\0\0"
    assert KdumpHeader.read(io.BytesIO(bytes(data))).utsname[0] == "\ufffd\ufffd"


@pytest.mark.parametrize("data", [b"", b"KDUMP", b"makedumpfile" + bytes(500)])
def test_other_files_are_no_kdump(data: bytes) -> None:
    with pytest.raises(KdumpError):
        KdumpHeader.read(io.BytesIO(data))


@pytest.mark.parametrize("block_size", [0, 100, 4097, 3 << 10])
def test_a_block_size_that_cannot_be_is_damage(block_size: int) -> None:
    data = bytearray(kdump("d"))
    struct.pack_into("<I", data, 428, block_size)
    with pytest.raises(KdumpError, match=f"block size {block_size}"):
        KdumpHeader.read(io.BytesIO(bytes(data)))


def test_a_file_cut_within_its_bitmaps_cannot_be_used() -> None:
    with pytest.raises(KdumpError, match=f"bitmaps \\({BLOCK} bytes"):
        missing(kdump("d")[: 3 * BLOCK])


def test_a_file_cut_within_its_sub_header_is_called_truncated() -> None:
    with pytest.raises(KdumpError, match="truncated within the kdump sub-header"):
        KdumpHeader.read(io.BytesIO(kdump("d")[: BLOCK + 50]))


def absent(pages: KdumpPages, count: int) -> list[int]:
    """The numbers of the pages that are cut."""
    return [i for i in range(count) if pages.first_absent(i * BLOCK, 1)]


def test_pages_whose_data_lies_beyond_the_end_are_cut() -> None:
    whole = kdump("zdzddz")
    assert absent(opened(whole), 6) == [] and opened(whole).absent() == 0
    cut = opened(whole[: -FULL - 1])
    assert absent(cut, 6) == [3, 4] and cut.absent() == 2
    assert cut.first_absent(0, 6 * BLOCK) == (3 * BLOCK, "cut")
    assert cut.first_absent(3 * BLOCK + 8, 8) == (3 * BLOCK + 8, "cut")


def test_pages_whose_descriptor_lies_beyond_the_end_are_cut() -> None:
    cut = opened(kdump("zd")[: 4 * BLOCK + 30])
    assert cut.absent() == 2  # the one page with a descriptor has no data
    assert cut.first_held() is None


def test_a_frame_that_the_bitmap_leaves_out_is_not_called_cut() -> None:
    assert opened(kdump("dd")[:-1]).first_absent(2 * BLOCK, 8) is None


def marked(data: bytes, status: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into("<I", changed, 424, status)
    return bytes(changed)


def test_in_an_incomplete_dump_a_descriptor_of_zeros_is_a_page_not_written() -> None:
    data = bytearray(marked(kdump("ddd"), 9))
    data[4 * BLOCK + 24 : 4 * BLOCK + 72] = bytes(48)
    pages = opened(bytes(data))
    assert pages.has_holes and pages.absent() == 2
    assert absent(pages, 3) == [1, 2] and pages.first_held() == 0


def test_the_status_word_tells_whether_makedumpfile_could_write_all() -> None:
    for status, is_incomplete in ((0, False), (1, False), (8, True), (9, True)):
        header = KdumpHeader.read(io.BytesIO(marked(kdump("d"), status)))
        assert header.is_incomplete == is_incomplete


@pytest.mark.parametrize(("version", "frames"), [(2, (5, 9)), (6, (7, 11))])
def test_a_part_of_a_split_dump_names_its_frames(
    version: int, frames: tuple[int, int]
) -> None:
    data = bytearray(kdump("d"))
    struct.pack_into("<i", data, 8, version)
    struct.pack_into("<qiiQQ", data, BLOCK, 0, 1, 1, 5, 9)
    struct.pack_into("<QQ", data, BLOCK + 80, 7, 11)
    assert KdumpHeader.read(io.BytesIO(bytes(data))).split == frames


def test_descriptors_that_lead_far_beyond_the_end_are_damage() -> None:
    data = bytearray(kdump("dd"))
    struct.pack_into("<Q", data, 4 * BLOCK + 24, 1 << 60)
    with pytest.raises(KdumpError, match="lead far beyond its end; copy it again"):
        opened(bytes(data))


@given(st.binary(max_size=600), st.integers(0, 500))
def test_random_bytes_are_a_header_or_one_kind_of_error(noise: bytes, at: int) -> None:
    data = bytearray(kdump("zd"))
    data[at : at + len(noise)] = noise
    file = io.BytesIO(bytes(data))
    with contextlib.suppress(KdumpError):
        assert KdumpPages(file, KdumpHeader.read(file)).missing_bytes >= 0
