# SPDX-License-Identifier: LGPL-2.1-or-later
"""makedumpfile's flattened form: a kdump file as a stream of pieces.

A pipe cannot seek, so that every piece comes with the offset where it belongs; a later
one replaces an earlier one. Mirrors struct makedumpfile_data_header.
"""

from __future__ import annotations

import bisect
import io
import os
import struct
from typing import BinaryIO

from .kdump_header import FLATTENED_SIGNATURE, KdumpError

__all__ = ["FlattenedFile"]

HEADER_BYTES = 4096
PIECE = struct.Struct(">qq")
END = -1
MAX_PIECES = 1 << 22
MAX_OFFSET = 1 << 56
"""A larger offset is damage and not the size of the file that this stands for."""
MAX_REPLACED = 1 << 22
"""Parts of pieces that later pieces may replace: makedumpfile replaces its headers."""


class FlattenedFile(io.RawIOBase):
    """The kdump file that the stream describes, for reading; nothing is copied.

    Raises `KdumpError` for a stream without its end.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        self._position = 0
        pieces = self._read_pieces()
        edges = sorted({edge for start, end, _ in pieces for edge in (start, end)})
        self._starts = edges
        places: list[int | None] = [None] * len(edges)
        left = len(edges) + MAX_REPLACED
        for start, end, at in pieces:
            first, last = (bisect.bisect_left(edges, edge) for edge in (start, end))
            left -= last - first
            if left < 0:
                raise KdumpError("damaged: the pieces of a flattened kdump overlap")
            for i in range(first, last):
                places[i] = at + edges[i] - start
        self._places = places

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}
        end = self._starts[-1] if self._starts else 0
        self._position = base.get(whence, end) + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        end = self._starts[-1] if self._starts else 0
        stop = end if size < 0 else min(end, self._position + size)
        parts = []
        while self._position < stop:
            index = bisect.bisect_right(self._starts, self._position) - 1
            upto = self._starts[0] if index < 0 else self._starts[index + 1]
            length = min(stop, upto) - self._position
            place = None if index < 0 else self._places[index]
            if place is None:
                parts.append(bytes(length))
            else:
                self._file.seek(place + self._position - self._starts[index])
                parts.append(self._file.read(length))
            self._position += length
        return b"".join(parts)

    def _read_pieces(self) -> list[tuple[int, int, int]]:
        """Start and end in the kdump file and place in the stream, in its order."""
        self._file.seek(0)
        if not self._file.read(16).startswith(FLATTENED_SIGNATURE):
            raise KdumpError("not a flattened dump")
        size = self._file.seek(0, os.SEEK_END)
        pieces: list[tuple[int, int, int]] = []
        position = HEADER_BYTES
        while len(pieces) < MAX_PIECES:
            self._file.seek(position)
            data = self._file.read(PIECE.size)
            if len(data) < PIECE.size:
                break
            offset, length = PIECE.unpack(data)
            if (offset, length) == (END, END):
                return pieces
            if (
                not 0 <= offset < MAX_OFFSET
                or length <= 0
                or position + PIECE.size + length > size
            ):
                break
            position += PIECE.size
            pieces.append((offset, offset + length, position))
            position += length
        raise KdumpError(
            "a stream of makedumpfile (flattened) that was cut short or is damaged: it "
            "has no end mark; copy it again"
        )
