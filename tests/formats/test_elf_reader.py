# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reading ELF headers: what a dump holds, what it leaves out, what is damage."""

from __future__ import annotations

import contextlib
import io
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.elf import ET_EXEC, Load, build_id, elf, note
from vmemmap_tools.formats.elf import (
    ET_CORE,
    NO_ADDRESS,
    Elf,
    ElfError,
    PhysicalExtent,
    SegmentMap,
)


def read(data: bytes) -> Elf:
    return Elf(io.BytesIO(data))


def extents(*loads: Load, data: bytes | None = None) -> list[tuple[int, int, bool]]:
    found = read(elf(loads) if data is None else data)
    return [(e.start, e.end, e.present) for e in SegmentMap(found.loads()).extents]


@pytest.mark.parametrize("order", ["<", ">"])
def test_headers_are_read_in_both_byte_orders(order: str) -> None:
    found = read(elf([Load(0x1000, b"x" * 16, va=0x9000)], order=order))
    assert (found.type, found.machine) == (ET_CORE, 62)
    assert found.byteorder == {"<": "little", ">": "big"}[order]
    (load,) = found.loads()
    assert (load.pa, load.va, load.file_size, load.memory_size) == (
        0x1000,
        0x9000,
        16,
        16,
    )
    assert found.read_at(load.offset, 4) == b"xxxx"


def test_a_path_is_opened_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(elf([Load(0, b"abc")]))
    with Elf(path) as found:
        assert len(found.loads()) == 1
    with pytest.raises(ValueError, match="closed"):
        found.read_at(0, 1)


def test_more_headers_than_16_bits_count_stand_in_section_header_0() -> None:
    # PN_XNUM: drgn and gdb open 70016 headers.
    loads = [Load(i << 12, b"") for i in range(70016)]
    found = read(elf(loads, use_xnum=True))
    assert len(found.loads()) == 70016
    assert SegmentMap(found.loads()).first_absent(0, 1) == (0, "outside")


def test_the_escape_value_without_section_headers_is_a_plain_count() -> None:
    data = bytearray(elf([Load(0, b"")]))
    struct.pack_into("<H", data, 56, 0xFFFF)
    with pytest.raises(ElfError, match="file ends"):
        read(bytes(data))


def test_notes_are_found_by_name_with_their_padding() -> None:
    notes = note("CORE", b"123", 1) + note("VMCOREINFO", b"OSRELEASE=7.3\n")
    found = read(elf(notes=notes))
    assert found.note("VMCOREINFO") == b"OSRELEASE=7.3\n"
    assert found.note("ABSENT") is None
    assert [(n.name, n.type) for n in found.notes()] == [("CORE", 1), ("VMCOREINFO", 0)]


def test_a_note_cut_short_ends_the_notes() -> None:
    notes = note("CORE", b"1234", 1) + note("VMCOREINFO", b"x" * 100)[:40]
    assert [n.name for n in read(elf(notes=notes)).notes()] == ["CORE"]


def test_the_build_id_is_that_of_the_gnu_note() -> None:
    assert read(elf(notes=build_id(b"\xab" * 20), kind=ET_EXEC)).build_id() == (
        b"\xab" * 20
    )
    assert read(elf(notes=note("GNU", b"other", 1))).build_id() is None


def test_notes_of_an_absurd_size_are_refused() -> None:
    data = bytearray(elf(notes=note("CORE", b"")))
    struct.pack_into("<Q", data, 64 + 32, 1 << 40)
    with pytest.raises(ElfError):
        list(Elf(_Endless(bytes(data))).notes())


class _Endless(io.BytesIO):
    """A sparse file of a terabyte."""

    def seek(self, offset: int, whence: int = 0) -> int:
        return (1 << 41) if whence == 2 else super().seek(offset, whence)


# Truncation and holes.


def test_a_whole_file_is_not_truncated() -> None:
    data = elf([Load(0, b"a" * 100), Load(4096, b"b" * 50, 4096)])
    assert not read(data).is_truncated
    assert read(data).expected_size == len(data)


@pytest.mark.parametrize("lost", [1, 60, 150])
def test_a_cut_file_is_truncated_and_names_what_it_should_be(lost: int) -> None:
    data = elf([Load(0, b"a" * 100), Load(4096, b"b" * 50)])
    cut = read(data[:-lost])
    assert cut.is_truncated
    assert cut.expected_size == len(data) and cut.file_size == len(data) - lost


def test_what_was_cut_off_is_a_hole() -> None:
    data = elf([Load(0, b"a" * 4096), Load(4096, b"b" * 4096)])
    assert extents(data=data[:-1096]) == [(0, 7096, True), (7096, 8192, False)]


def test_memory_that_was_filtered_is_a_hole() -> None:
    assert extents(Load(0x1000, b"x" * 0x1000, 0x3000)) == [
        (0x1000, 0x2000, True),
        (0x2000, 0x4000, False),
    ]
    assert extents(Load(0x1000, b"", 0x1000)) == [(0x1000, 0x2000, False)]


def test_adjoining_segments_are_one_extent() -> None:
    assert extents(Load(0, b"x" * 64), Load(64, b"y" * 64)) == [(0, 128, True)]


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        # the later segment wins, as in drgn
        (
            Load(0, b"x" * 100),
            Load(20, b"", 10),
            [(0, 20, True), (20, 30, False), (30, 100, True)],
        ),
        (Load(20, b"", 10), Load(0, b"x" * 100), [(0, 100, True)]),
        (Load(0, b"x" * 10, 100), Load(50, b"y" * 10), [
            (0, 10, True), (10, 50, False), (50, 60, True), (60, 100, False),
        ]),
    ],
)  # fmt: skip
def test_of_overlapping_segments_the_later_wins(
    first: Load, second: Load, found: list[tuple[int, int, bool]]
) -> None:
    assert extents(first, second) == found


def test_segments_without_a_physical_address_hold_none() -> None:
    assert extents(Load(NO_ADDRESS, b"x" * 64)) == []


def segment_map() -> SegmentMap:
    loads = [Load(0x1000, b"x" * 0x1000, 0x2000), Load(0x5000, b"y" * 0x1000)]
    return SegmentMap(read(elf(loads)).loads())


@pytest.mark.parametrize(
    ("pa", "size", "absent"),
    [
        (0x1000, 0x1000, None),
        (0x1FF8, 8, None),
        (0x1FF8, 9, (0x2000, "excluded")),
        (0x2000, 1, (0x2000, "excluded")),
        (0x2FFF, 2, (0x2FFF, "excluded")),
        (0x3000, 1, (0x3000, "outside")),
        (0x0, 0x1001, (0x0, "outside")),
        (0x5FFF, 2, (0x6000, "outside")),
        (1 << 63, 1, (1 << 63, "outside")),
        (0x3000, 0, None),
    ],
)
def test_the_first_absent_address_is_named_with_its_reason(
    pa: int, size: int, absent: tuple[int, str] | None
) -> None:
    assert segment_map().first_absent(pa, size) == absent


def test_a_dump_without_holes_says_so() -> None:
    assert segment_map().has_holes
    assert not SegmentMap(read(elf([Load(0, b"x")])).loads()).has_holes
    assert SegmentMap([]).first_absent(0, 1) == (0, "outside")


LOADS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 20), st.integers(0, 20)), max_size=6
)


@given(LOADS)
def test_extents_agree_with_addresses_looked_up_one_by_one(
    specs: list[tuple[int, int, int]],
) -> None:
    loads = [Load(pa, b"x" * held, held + lost) for pa, held, lost in specs]
    found = SegmentMap(read(elf(loads)).loads())
    model: dict[int, bool] = {}
    for pa, held, lost in specs:
        model.update({pa + i: i < held for i in range(held + lost)})
    for address in range(110):
        absent = found.first_absent(address, 1)
        reason = {True: None, False: "excluded", None: "outside"}[model.get(address)]
        assert (absent and absent[1]) == reason
    starts = [e.start for e in found.extents]
    assert starts == sorted(starts)
    assert all(a.end <= b.start for a, b in zip(found.extents, found.extents[1:]))
    assert all(isinstance(e, PhysicalExtent) and e.start < e.end for e in found.extents)


# Damage.


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not an ELF file"),
        (b"\x7fELF", "not an ELF file"),
        (b"KDUMP   " + bytes(100), "not an ELF file"),
        (b"\x7fELF\x01\x01" + bytes(100), "not a 64-bit"),
        (b"\x7fELF\x02\x07" + bytes(100), "not a 64-bit"),
    ],
)
def test_other_files_are_refused_in_words(data: bytes, words: str) -> None:
    with pytest.raises(ElfError, match=words):
        read(data)


def test_headers_of_another_size_are_damage() -> None:
    data = bytearray(elf([Load(0, b"")]))
    struct.pack_into("<H", data, 54, 32)
    with pytest.raises(ElfError, match="program header table"):
        read(bytes(data))


def exercise(data: bytes) -> None:
    """Everything a reader of dumps asks of a file."""
    found = read(data)
    SegmentMap(found.loads()).first_absent(0, 1 << 64)
    _ = found.is_truncated, found.expected_size
    list(found.notes())
    found.note("VMCOREINFO")
    found.build_id()
    found.sections()
    found.section_bytes(".text")


@given(st.binary(max_size=400))
def test_random_bytes_raise_nothing_but_elf_errors(noise: bytes) -> None:
    for data in (noise, b"\x7fELF\x02\x01\x01" + noise):
        with contextlib.suppress(ElfError):
            exercise(data)


@given(st.integers(0, 400), st.binary(min_size=1, max_size=16), st.booleans())
def test_a_damaged_file_raises_nothing_but_elf_errors(
    at: int, noise: bytes, use_xnum: bool
) -> None:
    loads = [Load(0x1000, b"x" * 64, 128), Load(0x2000, b"y" * 64)]
    data = bytearray(elf(loads, note("VMCOREINFO", b"a=b\n"), use_xnum=use_xnum))
    data[at : at + len(noise)] = noise
    with contextlib.suppress(ElfError):
        exercise(bytes(data))


@given(st.integers(0, 500))
def test_a_file_cut_anywhere_raises_nothing_but_elf_errors(length: int) -> None:
    data = elf([Load(0, b"x" * 64)], note("VMCOREINFO", b"a=b\n"), use_xnum=True)
    with contextlib.suppress(ElfError):
        exercise(data[:length])


def test_what_the_file_ends_before_is_cut_and_what_was_left_out_is_excluded() -> None:
    data = elf([Load(0, b"a" * 64, 96), Load(128, b"b" * 64)])
    found = SegmentMap(read(data[:-96]).loads())
    assert [found.first_absent(pa, 1) for pa in (0, 31, 32, 63, 64, 95)] == [
        None,
        None,
        (32, "cut"),
        (63, "cut"),
        (64, "excluded"),
        (95, "excluded"),
    ]
    # Its header is there, its bytes lie wholly beyond the end.
    assert found.first_absent(128, 64) == (128, "cut")
    assert found.first_absent(96, 1) == (96, "outside")
    assert found.has_holes


def test_makedumpfiles_mark_of_an_incomplete_file_is_seen() -> None:
    data = bytearray(elf([Load(0, b"x")]))
    assert not read(bytes(data)).is_incomplete
    data[48] |= 1
    assert read(bytes(data)).is_incomplete
