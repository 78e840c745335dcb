# SPDX-License-Identifier: LGPL-2.1-or-later
"""Capsules of real kernels that lie under a right checksum, at the command line.

A checksum finds accidents; these were sealed again after they had been changed, in
their memory, in what they say of themselves, or in their VMCOREINFO.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given

from tests.bounded import EVERY_VERB, damaged_word, fuzz, judge
from tests.real.captures import CAPTURES, Capture
from vmemmap_tools.formats.elf import Elf
from vmemmap_tools.formats.seal import HEADER, MAGIC, seal
from vmemmap_tools.target.recorded import END_OF_TEXT

from .lies import lie

PAGE = 4096


class Sealed:
    """A capsule in a file, which can be changed, sealed again, and restored."""

    def __init__(self, path: Path):
        self.path = path
        self.whole = path.read_bytes()
        with Elf(str(path)) as elf:
            self.loads = [s for s in elf.loads() if s.file_size >= PAGE]
        self.header_at = self.whole.index(MAGIC)
        *_, self.body_size = HEADER.unpack_from(self.whole, self.header_at)

    @property
    def body_at(self) -> int:
        return self.header_at + HEADER.size

    def word(self, offset: int) -> int:
        (value,) = struct.unpack_from("<Q", self.whole, offset)
        return int(value)

    @contextmanager
    def changed(self, patches: Sequence[tuple[int, bytes]]) -> Iterator[None]:
        content = bytearray(self.whole)
        for offset, data in patches:
            content[offset : offset + len(data)] = data
        self.path.write_bytes(content)
        with self.path.open("r+b") as file:
            seal(file)
        try:
            yield
        finally:
            self.path.write_bytes(self.whole)

    def says(self) -> dict[str, Any]:
        """The description of itself."""
        text, _, _ = self._unpacked().partition(END_OF_TEXT)
        found: dict[str, Any] = json.loads(text)
        return found

    def saying(self, said: dict[str, Any]) -> bytes | None:
        """The header and body that say this, None if they need more room."""
        _, _, words = self._unpacked().partition(END_OF_TEXT)
        text = json.dumps(said, separators=(",", ":")).encode()
        body = zlib.compress(text + END_OF_TEXT + words, 9)
        if len(body) > self.body_size:
            return None
        body = body.ljust(self.body_size, b"\0")
        return HEADER.pack(MAGIC, 0, zlib.crc32(body), len(body)) + body

    def _unpacked(self) -> bytes:
        body = self.whole[self.body_at : self.body_at + self.body_size]
        return zlib.decompress(body)


@pytest.fixture(scope="module", params=["6.1.0", "7.3-cloud-amd64_kaslr"])
def sealed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Sealed:
    (packed,) = CAPTURES.glob(f"{request.param}*.core.xz")
    path = tmp_path_factory.mktemp("sealed") / "core"
    Capture(packed).unpack(path)
    return Sealed(path)


def test_what_was_sealed_again_without_a_change_answers(sealed: Sealed) -> None:
    said = sealed.saying(sealed.says())
    assert said is not None
    with sealed.changed([(sealed.header_at, said)]):
        for words in EVERY_VERB:
            assert judge(("-c", str(sealed.path), *words)) == 0


@given(data=st.data())
@fuzz(16)
def test_memory_that_lies(sealed: Sealed, data: st.DataObject) -> None:
    patches = []
    for _ in range(data.draw(st.integers(1, 6))):
        load = data.draw(st.sampled_from(sealed.loads))
        slot = data.draw(st.integers(0, load.file_size // 8 - 1))
        count = data.draw(st.sampled_from((1, 1, 1, 8, 512)))
        offset = load.offset + 8 * slot
        elsewhere = [sealed.word(other.offset) for other in sealed.loads[:64]]
        word = data.draw(damaged_word(sealed.word(offset), elsewhere))
        size = min(8 * count, load.file_size - 8 * slot)
        patches.append((offset, (struct.pack("<Q", word) * count)[:size]))
    words = data.draw(st.sampled_from(EVERY_VERB))
    with sealed.changed(patches):
        judge(("-c", str(sealed.path), *words))


@given(data=st.data())
@fuzz(16)
def test_a_description_that_lies(sealed: Sealed, data: st.DataObject) -> None:
    said = sealed.says()
    for _ in range(data.draw(st.integers(1, 3))):
        part = data.draw(st.sampled_from(("answers", "answers", *sorted(said))))
        said[part] = lie(data, said[part])
    packed = sealed.saying(said)
    assume(packed is not None)
    assert packed is not None
    words = data.draw(st.sampled_from(EVERY_VERB))
    with sealed.changed([(sealed.header_at, packed)]):
        judge(("-c", str(sealed.path), *words))


@given(data=st.data())
@fuzz(8)
def test_a_note_that_lies(sealed: Sealed, data: st.DataObject) -> None:
    start = sealed.whole.index(b"OSRELEASE=")
    text = sealed.whole[start : sealed.whole.index(b"\0", start)]
    lines = text.splitlines(keepends=True)
    chosen = data.draw(
        st.sampled_from([i for i, line in enumerate(lines) if i and b"=" in line])
    )
    at = sum(map(len, lines[:chosen])) + lines[chosen].index(b"=") + 1
    length = len(lines[chosen].rstrip().partition(b"=")[2])
    other = data.draw(st.text("0123456789abcdefx-=\n \x1b\xff", max_size=length))
    value = other.encode("latin-1")[:length].ljust(length, b"0")
    words = data.draw(st.sampled_from(EVERY_VERB))
    with sealed.changed([(start + at, value)]):
        judge(("-c", str(sealed.path), *words))


@given(data=st.data())
@fuzz(8)
def test_headers_that_lie(sealed: Sealed, data: st.DataObject) -> None:
    """ELF headers and the heads of notes: the checksum cannot be made right for all."""
    at = data.draw(st.one_of(st.integers(0, 512), st.integers(0, sealed.body_at - 8)))
    value = data.draw(damaged_word(sealed.word(at), (1, 4096, len(sealed.whole))))
    content = bytearray(sealed.whole)
    struct.pack_into("<Q", content, at, value)
    sealed.path.write_bytes(content)
    try:
        judge(("-c", str(sealed.path), *data.draw(st.sampled_from(EVERY_VERB))))
    finally:
        sealed.path.write_bytes(sealed.whole)
