# SPDX-License-Identifier: LGPL-2.1-or-later
"""makedumpfile's stream form, read in place."""

from __future__ import annotations

import io
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmemmap_tools.formats.kdump_flattened import FlattenedFile
from vmemmap_tools.formats.kdump_header import KdumpError

END = struct.pack(">qq", -1, -1)


def stream(*pieces: tuple[int, bytes], end: bytes = END) -> bytes:
    """The stream in which each piece belongs at an offset."""
    body = b"".join(struct.pack(">qq", at, len(d)) + d for at, d in pieces)
    return b"makedumpfile".ljust(4096, b"\0") + body + end


def read(data: bytes, at: int = 0, size: int = -1) -> bytes:
    file = FlattenedFile(io.BytesIO(data))
    file.seek(at)
    return file.read(size)


def test_pieces_are_put_where_they_belong() -> None:
    data = stream((4, b"efgh"), (0, b"abcd"), (12, b"mn"))
    assert read(data) == b"abcdefgh\0\0\0\0mn"
    assert read(data, 2, 4) == b"cdef" and read(data, 13, 9) == b"n"


def test_a_later_piece_replaces_what_an_earlier_one_wrote() -> None:
    assert read(stream((0, b"aaaaaa"), (2, b"bb"))) == b"aabbaa"


def test_its_size_is_where_the_last_piece_ends() -> None:
    file = FlattenedFile(io.BytesIO(stream((8, b"ab"), (0, b"c"))))
    assert file.seek(0, os.SEEK_END) == 10 and file.read(1) == b""


@pytest.mark.parametrize("lost", [1, 16, 17, 20])
def test_a_stream_without_its_end_is_cut_short(lost: int) -> None:
    with pytest.raises(KdumpError, match="cut short"):
        FlattenedFile(io.BytesIO(stream((0, b"abcd"))[:-lost]))


def test_a_piece_of_negative_size_is_damage() -> None:
    with pytest.raises(KdumpError, match="damaged"):
        FlattenedFile(io.BytesIO(stream(end=struct.pack(">qq", 4, -7))))


@given(
    st.lists(st.tuples(st.integers(0, 64), st.binary(min_size=1, max_size=9))),
    st.integers(0, 80),
    st.integers(0, 80),
)
def test_any_stream_reads_as_if_it_were_written_out(
    pieces: list[tuple[int, bytes]], at: int, size: int
) -> None:
    written = io.BytesIO()
    for offset, data in pieces:
        written.seek(offset)
        written.write(data)
    assert read(stream(*pieces), at, size) == written.getvalue()[at : at + size]
