# SPDX-License-Identifier: LGPL-2.1-or-later
"""The harness's own readers, on texts small enough to judge by eye."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from .cache import RealError
from .devices import namespaces, parse_dax, parse_nd
from .kdump_repair import read_vmcoreinfo, repair, unflatten
from .memory import parse_blocks, parse_iomem, parse_zones
from .sparse import write_sparse
from .tlb import read_tlb
from .truth import PageRun, parse_truth

_INFO = b"OSRELEASE=7.3-x\nNUMBER(phys_base)=-4096\n"


def _plain_kdump() -> bytes:
    header = bytearray(12288)
    header[:8] = b"KDUMP   "
    struct.pack_into("<I", header, 428, 4096)
    struct.pack_into("<QQ", header, 4096 + 32, 8192, len(_INFO))
    header[8192 : 8192 + len(_INFO)] = _INFO
    return bytes(header)


def _flat(*records: tuple[int, bytes]) -> bytes:
    out = b"makedumpfile".ljust(4096, b"\0")
    for offset, data in records:
        out += struct.pack(">qq", offset, len(data)) + data
    return out


def test_unflatten_puts_records_where_they_belong(tmp_path: Path) -> None:
    raw, plain = tmp_path / "raw", tmp_path / "plain"
    end = struct.pack(">qq", -1, -1)
    raw.write_bytes(_flat((4, b"later"), (0, b"head")) + end)
    unflatten(raw, plain)
    assert plain.read_bytes() == b"headlater"


@pytest.mark.parametrize("cut", [1, 16, 18])
def test_unflatten_refuses_a_file_cut_short(tmp_path: Path, cut: int) -> None:
    raw = tmp_path / "raw"
    whole = _flat((0, b"head")) + struct.pack(">qq", -1, -1)
    raw.write_bytes(whole[:-cut])
    with pytest.raises(RealError):
        unflatten(raw, tmp_path / "plain")


def test_repair_fills_names_and_a_negative_phys_base(tmp_path: Path) -> None:
    path = tmp_path / "kdump"
    path.write_bytes(_plain_kdump())
    repair(path, ("Linux", "node", "7.3-x", "#1", "x86_64"))
    data = path.read_bytes()
    assert data[12:18] == b"Linux\0"
    assert data[12 + 2 * 65 :].startswith(b"7.3-x\0")
    assert data[4096:4104] == b"\x00\xf0" + b"\xff" * 6
    assert read_vmcoreinfo(path) == _INFO.decode()


def test_write_sparse_keeps_bytes_and_leaves_holes(tmp_path: Path) -> None:
    data = bytes(1 << 21) + b"x" * 5000 + bytes(100)
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        with open(writer, "wb") as out:
            out.write(data)
        os._exit(0)
    os.close(writer)
    path = tmp_path / "sparse"
    assert write_sparse(reader, path) == len(data)
    os.wait()
    assert path.read_bytes() == data
    assert path.stat().st_blocks * 512 < 1 << 20


def test_read_tlb_takes_the_window_and_the_flags(tmp_path: Path) -> None:
    path = tmp_path / "tlb"
    path.write_text(
        "0000000000400000: 00000001fffc1000 X---A--U-\n"
        "ffffea0000000000: 0000000000200000 XGPDA---W\n"
        "ffffea0000200000: 000000000000a000 XG--A----\n"
    )
    large, base = read_tlb(path, 0xFFFFEA0000000000)
    assert (large.frame_pfn, large.page_size, large.writable) == (512, 2 << 20, True)
    assert (base.frame_pfn, base.page_size, base.writable) == (10, 4096, False)


def test_a_record_without_its_end_is_refused() -> None:
    with pytest.raises(RealError, match="cut short"):
        parse_truth("@@ uname\nLinux\n")


def test_a_record_gives_heads_pools_and_held_pages() -> None:
    truth = parse_truth(
        "@@ kpageflags\n0 512 other\n0x200 1 huge-head\n0x201 511 huge-tail\n"
        "@@ hugetlb\n"
        "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages:3\n"
        "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages:2\n"
        "/sys/kernel/mm/hugepages/hugepages-2048kB/surplus_hugepages:0\n"
        "/sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages:1\n"
        "/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages:3\n"
        "/sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages:2\n"
        "/sys/devices/system/node/node1/hugepages/hugepages-2048kB/surplus_hugepages:0\n"
        "@@ held\n/run/held/file:0x7f0000000000 0x200\n/run/held/file:done\n"
        "@@ end\n"
    )
    assert truth.hugetlb_head_pfns == [0x200]
    assert truth.page_runs[2] == PageRun(0x201, 511, "huge-tail")
    assert truth.pool(2 << 20).reserved == 1
    assert truth.pool(2 << 20, node=1).total == 3
    assert truth.pool(2 << 20, node=1).reserved is None
    assert [(page.holder, page.pfn) for page in truth.held] == [("file", 0x200)]


def test_an_empty_zone_has_no_start() -> None:
    text = (
        "Node 0, zone   Normal\n  pages free     7\n        spanned  20\n"
        "        present  10\n        managed  9\n  start_pfn:           4096\n"
        "Node 0, zone  Movable\n  pages free     0\n        spanned  0\n"
        "        present  0\n        managed  0\n"
    )
    normal, movable = parse_zones(text)
    assert (normal.start_pfn, normal.spanned, normal.present) == (4096, 20, 10)
    assert (movable.name, movable.start_pfn) == ("Movable", None)


def test_blocks_know_their_state_and_nodes() -> None:
    base = "/sys/devices/system/memory"
    text = f"{base}/memory10/phys_index:0000000a\n{base}/memory10/state:offline\n"
    (block,) = parse_blocks(text, f"{base}/memory10/node1\n")
    assert (block.number, block.phys_index, block.nodes) == (10, 10, (1,))
    assert not block.is_online


def test_iomem_keeps_nesting_and_ends() -> None:
    outer, inner = parse_iomem("1000-2fff : System RAM\n  2000-2fff : dax0.0\n")
    assert (outer.depth, outer.start_pfn, outer.end_pfn) == (0, 1, 3)
    assert (inner.depth, inner.name) == (1, "dax0.0")


def test_a_namespace_covers_its_region_with_the_info_block() -> None:
    nd = parse_nd(
        "/sys/bus/nd/devices/region2:odd\n"
        "/sys/bus/nd/devices/region2/resource:0x1a0000000\n"
        "/sys/bus/nd/devices/region2/size:268435456\n"
        "/sys/bus/nd/devices/dax2.0/mode:pmem\n"
        "/sys/bus/nd/devices/dax2.0/align:2097152\n"
        "/sys/bus/nd/devices/dax2.0/namespace:namespace2.0\n"
        "/sys/bus/nd/devices/dax2.0/resource:0x1a0600000\n"
        "/sys/bus/nd/devices/dax2.0/size:262144000\n"
        "/sys/bus/nd/devices/dax2.1/mode:none\n"
    )
    dax = parse_dax(
        "/sys/bus/dax/devices/dax2.0/size:262144000\n",
        "/sys/bus/dax/devices/dax2.0/driver:../../../bus/dax/drivers/device_dax\n",
    )
    (space,) = namespaces(nd, dax)
    assert (space.start_pfn, space.data_start_pfn) == (0x1A0000, 0x1A0600)
    assert space.end_pfn == 0x1B0000
    assert (space.has_altmap, space.owner) == (True, "device_dax")
