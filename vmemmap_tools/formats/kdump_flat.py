# SPDX-License-Identifier: LGPL-2.1-or-later
"""makedumpfile's stream form of a kdump, read as the file that it stands for.

A header of 4096 bytes is followed by records: offset and size, big-endian, and that
many bytes. A record of -1 ends the stream. libkdumpfile trusts the records.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

from .elf import PT_LOAD, Segment
from .elf_bytes import Absent, AddressedBytes
from .kdump_header import MAX_OFFSET, KdumpError

__all__ = ["Unflattened"]

HEADER_BYTES = 4096
HEADER = struct.Struct(">16sqq")
RECORD = struct.Struct(">qq")
END = -1
STREAM_TYPE, STREAM_VERSION = 1, 1
MAX_RECORDS = 1 << 20
CUT_SHORT = "a stream of makedumpfile (flattened) that was cut short; copy it again"


class Unflattened:
    """The file behind a stream, to seek and to read. Raises `KdumpError`."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._position = 0
        self.size = 0
        records = self._records()
        self._bytes = AddressedBytes(records, lambda s: s.pa, self._read_at)

    def _records(self) -> list[Segment]:
        file_size = self._file.seek(0, os.SEEK_END)
        head = self._read_at(0, HEADER.size)
        if len(head) < HEADER.size or file_size < HEADER_BYTES:
            raise KdumpError(CUT_SHORT)
        if HEADER.unpack(head)[1:] != (STREAM_TYPE, STREAM_VERSION):
            raise KdumpError("damaged: the header of a flattened kdump")
        records: list[Segment] = []
        at = HEADER_BYTES
        while len(records) <= MAX_RECORDS:
            head = self._read_at(at, RECORD.size)
            if len(head) < RECORD.size:
                raise KdumpError(CUT_SHORT)
            offset, size = RECORD.unpack(head)
            if offset == END:
                return records
            if not 0 <= offset < MAX_OFFSET or not size > 0:
                raise KdumpError("damaged: a record of a flattened kdump")
            at += RECORD.size
            if at + size > file_size:
                raise KdumpError(CUT_SHORT)
            records.append(Segment(PT_LOAD, 4, at, 0, offset, size, size, size))
            self.size = max(self.size, offset + size)
            at += size
        raise KdumpError("damaged: a flattened kdump of too many records")

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As a file's."""
        self._position = offset + (self.size if whence == os.SEEK_END else 0)
        return self._position

    def read(self, size: int) -> bytes:
        """As a file's; what no record holds is zero."""
        end = min(self.size, self._position + size)
        data = b""
        while self._position < end:
            try:
                more = self._bytes.read(self._position, end - self._position)
            except Absent as absent:
                more = self._bytes.read(self._position, absent.address - self._position)
                more += bytes(min(HEADER_BYTES, end - absent.address))
            data += more
            self._position += len(more)
        return data

    def _read_at(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(size)
