# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reading records and strings, and the account of what was missing."""

from __future__ import annotations

import pytest

from tests.fakes.layouts import array, struct, u32, u64
from tests.fakes.machine import Machine
from vmemmap_tools.kernel.memory import Missing, Record, escape
from vmemmap_tools.target.base import Fault, Member

EXAMPLE = struct(
    "example",
    24,
    word=u64(0),
    half=u32(8),
    words=array(8, 4, 4),
    low=Member(0, 4, "int", "unsigned int", bit_offset=4, bit_size=3),
)


def record(data: bytes = bytes(range(1, 25)), address: int = 0x1000) -> Record:
    return Record(EXAMPLE, address, data, "little")


def test_members_are_unsigned_unless_asked() -> None:
    found = record(b"\xff" * 24)
    assert found["half"] == 0xFFFFFFFF
    assert found.signed("half") == -1


def test_members_stand_in_the_targets_byte_order() -> None:
    data = bytes(range(1, 25))
    assert Record(EXAMPLE, 0, data, "little")["half"] == 0x0C0B0A09
    assert Record(EXAMPLE, 0, data, "big")["half"] == 0x090A0B0C


def test_arrays_bit_fields_and_bytes_are_read() -> None:
    found = record(bytes([0b1010_0000]) + bytes(7) + bytes(range(16)))
    assert found["low"] == 0b010
    assert found.array("words") == [0x03020100, 0x07060504, 0x0B0A0908, 0x0F0E0D0C]
    assert found.bytes("half") == bytes([0, 1, 2, 3])


def test_a_member_that_this_kernel_lacks_is_none_or_a_key_error() -> None:
    found = record()
    assert found.get("order") is None and "order" not in found
    assert found.get("half") == 0x0C0B0A09
    with pytest.raises(KeyError):
        found["order"]


def test_the_address_of_a_member_counts_from_the_structs() -> None:
    assert record().address_of("half") == 0x1008


def test_the_vmemmap_is_read_through_the_page_tables() -> None:
    # No vmcore covers it by virtual address; two pages lie on frames far apart.
    m = Machine("7.3")
    m.add_section(1)
    m.map(513, m.frames(1, 1024))
    m.set_page(0x8000 + 63, private=0x11)
    m.set_page(0x8000 + 64, private=0x22)
    data = m.kernel().memory.read(m.vmemmap + (0x8000 + 63) * 64, 128)
    assert (data[40], data[64 + 40]) == (0x11, 0x22)


def test_a_read_over_the_end_of_a_mapping_is_a_fault_there() -> None:
    m = Machine("7.3")
    m.add_section(1)
    last = m.vmemmap + 1023 * 4096
    with pytest.raises(Fault) as error:
        m.kernel().memory.read(last, 8192)
    assert (error.value.address, error.value.kind) == (last + 4096, "unmapped")


def test_a_pointer_near_the_end_of_addresses_is_a_fault() -> None:
    memory = Machine("7.3").kernel().memory
    for va in ((1 << 64) - 4, 1 << 64):
        with pytest.raises(Fault):
            memory.read(va, 64)


def test_strings_end_at_nul_or_after_256_bytes() -> None:
    m = Machine("7.3")
    memory = m.kernel().memory
    assert memory.string(m.target.put(b"Normal\0rest")) == "Normal"
    assert len(memory.string(m.target.put(b"x" * 5000))) == 256


def test_a_string_at_the_end_of_readable_memory_is_read() -> None:
    m = Machine("7.3")
    page = m.target.allocate(8192, 4096)
    m.target.write(page + 4090, b"DMA32\0")
    m.memory.lose((page - m.target.direct_map >> 12) + 1)
    assert m.kernel().memory.string(page + 4090) == "DMA32"


def test_text_from_a_dump_is_made_printable() -> None:
    assert escape(b"a\x1b\xff\n") == "a\\x1b\\xff\\x0a"


def test_what_is_missing_is_counted_by_kind_and_concern() -> None:
    missing = Missing()
    assert not missing and missing.as_dict() == {}
    missing.record(Fault(0, 8, "io"), "nodes")
    missing.record(Fault(0, 8, "excluded"), "struct pages", 3)
    missing.record(Fault(8, 8, "excluded"), "struct pages")
    assert missing
    assert missing.as_dict() == {"excluded": {"struct pages": 4}, "io": {"nodes": 1}}


def test_a_fault_says_where_and_why() -> None:
    fault = Fault(0x1000, 8, "excluded", physical=True)
    assert str(fault) == "excluded: 8 bytes at physical address 0x1000"
    with pytest.raises(AssertionError):
        Fault(0, 1, "lost")


@pytest.mark.parametrize("va", [0, 0x1000, 0x90000, (1 << 47) - 4096, (1 << 63) - 8])
def test_user_addresses_are_not_the_kernels(va: int) -> None:
    # drgn reads a dump with p_vaddr = p_paddr at such addresses: as physical ones.
    m = Machine("7.3")
    m.target.read = lambda address, size: bytes(size)  # type: ignore[method-assign]
    with pytest.raises(Fault) as caught:
        m.kernel().memory.read(va, 8)
    assert (caught.value.kind, caught.value.physical) == ("unmapped", False)
