# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that a library would die of, or take all memory for, are refused before."""

from __future__ import annotations

import json
import socket
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bounded import MEMORY, peak
from tests.fuzz.dumps import flattened
from tests.model.kernels import small
from tests.target.vmlinux import change_section
from vmemmap_tools.cli import main
from vmemmap_tools.target import drgn_qemu
from vmemmap_tools.target.base import TargetError
from vmemmap_tools.target.drgn_open import open_qemu
from vmemmap_tools.target.recorded import CapsuleNote
from vmemmap_tools.target.vmcoreinfo import VmcoreInfo

BLOCK = 4096
VMCOREINFO_SIZE, NOTE_OFFSET, NOTE_SIZE = 40, 48, 56
"""Places in ``struct kdump_sub_header``."""
DESCRIPTOR = struct.Struct("<QIIQ")

Asked = Callable[..., str]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("machine")
    small("6.12").write(folder, kdump=True)
    return folder


@pytest.fixture
def refusal(machine: Path, capsys: pytest.CaptureFixture[str]) -> Asked:
    """The one line with which an input is refused."""

    def asked(core: Path, vmlinux: Path | None = None) -> str:
        symbols = vmlinux or machine / "vmlinux"
        assert main(["-c", str(core), "-s", str(symbols), "info"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return asked


def kdump_with(machine: Path, path: Path, offset: int, data: bytes) -> Path:
    content = bytearray((machine / "vmcore.kdump").read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("place", [VMCOREINFO_SIZE, NOTE_OFFSET, NOTE_SIZE])
@pytest.mark.parametrize("value", [0xA70000, (1 << 56) - 1, (1 << 64) - 1])
def test_a_kdump_whose_notes_cross_its_end_is_refused(
    machine: Path, tmp_path: Path, refusal: Asked, place: int, value: int
) -> None:
    data = struct.pack("<Q", value)
    core = kdump_with(machine, tmp_path / "core", BLOCK + place, data)
    assert "damaged: its sub-header names" in refusal(core)


def descriptors_at(machine: Path) -> int:
    head = (machine / "vmcore.kdump").read_bytes()[:464]
    _, sub_header, bitmaps = struct.unpack_from("<iiI", head, 428)
    return BLOCK * int(1 + sub_header + bitmaps)


@pytest.mark.parametrize("size", [BLOCK + 1, 1 << 31, (1 << 32) - 1])
def test_a_page_that_is_larger_than_a_page_is_refused(
    machine: Path, tmp_path: Path, refusal: Asked, size: int
) -> None:
    at = descriptors_at(machine) + 24 * 1000 + 8
    core = kdump_with(machine, tmp_path / "core", at, struct.pack("<I", size))
    assert "damaged: a page descriptor" in refusal(core)


def test_a_page_that_crosses_the_end_of_the_file_is_refused(
    machine: Path, tmp_path: Path, refusal: Asked
) -> None:
    size = (machine / "vmcore.kdump").stat().st_size
    data = DESCRIPTOR.pack(size - 1, BLOCK, 0, 0)
    at = descriptors_at(machine) + 24 * 1000
    core = kdump_with(machine, tmp_path / "core", at, data)
    assert "damaged: a page descriptor" in refusal(core)


def test_a_kdump_that_was_transferred_as_text_is_called_that(
    machine: Path, tmp_path: Path, refusal: Asked
) -> None:
    whole = (machine / "vmcore.kdump").read_bytes()
    core = tmp_path / "core"
    core.write_bytes(whole.replace(b"\n", b"\r\n"))
    line = refusal(core)
    assert "damaged" in line and "transferred as text" in line
    assert "bytes are missing" not in line


@pytest.mark.parametrize("record", [(-5, 64), (1 << 60, 64), (0, -1), (0, 1 << 40)])
def test_a_flattened_kdump_with_a_damaged_record_is_refused(
    machine: Path, tmp_path: Path, refusal: Asked, record: tuple[int, int]
) -> None:
    stream, heads = flattened((machine / "vmcore.kdump").read_bytes())
    whole = bytearray(stream)
    struct.pack_into(">qq", whole, heads[1], *record)
    core = tmp_path / "core"
    core.write_bytes(whole)
    line = refusal(core)
    assert "flattened" in line and ("damaged" in line or "cut short" in line)


def test_a_flattened_kdump_is_checked_like_the_file_it_stands_for(
    machine: Path, tmp_path: Path, refusal: Asked
) -> None:
    data = struct.pack("<Q", 1 << 40)
    core = kdump_with(machine, tmp_path / "core", BLOCK + NOTE_SIZE, data)
    core.write_bytes(flattened(core.read_bytes())[0])
    assert "damaged: its sub-header names" in refusal(core)


def test_program_headers_without_number_are_refused_before_they_are_read(
    tmp_path: Path, refusal: Asked
) -> None:
    """PN_XNUM: the count of 30 million is that of section header 0."""
    core, headers, sections = tmp_path / "core", 128, 64
    ident = b"\x7fELF\2\1\1" + bytes(9)
    fields = (4, 62, 1, 0, headers, sections, 0, 64, 56, 0xFFFF, 64, 1, 0)
    first = struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 1, 0, 30_000_000, 0, 0)
    with core.open("wb") as file:
        file.write(ident + struct.pack("<HHIQQQIHHHHHH", *fields) + first)
        file.truncate(headers + 56 * 30_000_000)
    assert "30000000 program headers" in refusal(core)


@pytest.mark.parametrize("filler", [[[]] * 2_000_000, ["x"] * 4_000_000])
def test_a_description_of_millions_of_values_is_refused_before_it_is_parsed(
    filler: list[object],
) -> None:
    packed = zlib.compress(json.dumps({"format": 3, "filler": filler}).encode())
    assert len(packed) < 1 << 16
    with pytest.raises(TargetError, match="larger than that of any machine"):
        CapsuleNote.unpack(packed)


def test_a_description_that_unpacks_without_end_is_refused() -> None:
    packed = zlib.compress(bytes(256 << 20))
    with pytest.raises(TargetError, match="larger than that of any machine"):
        CapsuleNote.unpack(packed)
    assert peak() < MEMORY


@pytest.mark.parametrize("section", [".debug_abbrev", ".debug_str"])
def test_damaged_debug_info_is_one_line(
    machine: Path, tmp_path: Path, refusal: Asked, section: str
) -> None:
    vmlinux = tmp_path / "vmlinux"
    vmlinux.write_bytes((machine / "vmlinux").read_bytes())
    change_section(vmlinux, section, size=3)
    assert "the debug info of the vmlinux is damaged" in refusal(
        machine / "vmcore", vmlinux
    )


@pytest.mark.parametrize("release", ["../../x", "6.12/../../..", "/etc", "..", "."])
def test_a_release_that_is_a_path_is_refused(release: str) -> None:
    with pytest.raises(TargetError, match="not the release of a kernel"):
        VmcoreInfo(f"OSRELEASE={release}\n").check_release()


def test_a_dump_whose_release_is_a_path_is_refused(
    machine: Path, tmp_path: Path, refusal: Asked
) -> None:
    whole = (machine / "vmcore.kdump").read_bytes()
    core = tmp_path / "core"
    core.write_bytes(whole.replace(b"OSRELEASE=6.12.0", b"OSRELEASE=../../"))
    assert "OSRELEASE=../../" in refusal(core)


def test_a_qmp_server_that_greets_and_is_silent_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drgn_qemu, "OPENING_SECONDS", 0.2)
    path = str(tmp_path / "qmp")
    held: list[socket.socket] = []

    def serve() -> None:
        client, _ = server.accept()
        client.send(b'{"QMP": {"version": {}, "capabilities": []}}\r\n')
        held.append(client)

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(TargetError, match="does not answer"):
            open_qemu(path)
    for client in held:
        client.close()


def test_reads_of_a_qmp_connection_end_after_a_while(tmp_path: Path) -> None:
    path = str(tmp_path / "qmp")
    with (
        socket.socket(socket.AF_UNIX) as server,
        socket.socket(socket.AF_UNIX) as client,
    ):
        server.bind(path)
        server.listen()
        client.connect(path)
        drgn_qemu.bound_waiting(path)
        limit = client.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16)
    assert struct.unpack("@ll", limit) == (drgn_qemu.ANSWER_SECONDS, 0)
