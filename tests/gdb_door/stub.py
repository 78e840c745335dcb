# SPDX-License-Identifier: LGPL-2.1-or-later
"""A gdb stub as QEMU's, over a machine's physical memory: no kernel runs behind it.

Speaks the remote serial protocol on a socket. What makes the cases of a live machine
can be chosen: the page tables in use, whether there is a physical mode and a monitor,
and how slow the line is.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

__all__ = ["Cpu", "Stub", "StubbedMachine"]

ADDRESS = (1 << 47) - 4096
"""Of an entry; the bit of encrypted memory lies above."""
PAGE = 4096
PACKET = 4096

CORE = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"),
    *(f"r{i}" for i in range(8, 16)),
    "rip",
)
SHORT = ("eflags", "cs", "ss", "ds", "es", "fs", "gs")
FLOAT = tuple(f"st{i}" for i in range(8))
CONTROL = ("fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop")
SSE = tuple(f"xmm{i}" for i in range(16))
SYSTEM = ("cr0", "cr2", "cr3", "cr4")

Read = Callable[[int, int], bytes]


@dataclass
class Cpu:
    """Registers that matter. ``hides_cr`` leaves cr3 and cr4 out of the registers."""

    cr3: int
    cr4: int = 0
    cs: int = 0x10
    rip: int = 0xFFFFFFFF81000000
    idt: int = 0
    hides_cr: bool = False


@dataclass
class StubbedMachine:
    """What is behind the stub.

    ``read`` gives physical memory; what lies outside is zeros, as in QEMU. ``monitor``
    answers commands, None is a stub without one.
    """

    read: Read
    cpu: Cpu
    has_physical_mode: bool = True
    monitor: Callable[[str], str] | None = None
    delay: float = 0.0
    """Seconds that each packet takes."""
    levels: int = 4
    on_continue: Callable[[], None] | None = None
    broken: int | None = None
    """Physical address of a page that the stub refuses to read."""
    is_physical: bool = field(default=False, init=False)
    packets: list[str] = field(default_factory=list, init=False)
    """Everything that was asked."""

    def virtual(self, va: int, size: int) -> bytes | None:
        """As the CPU's MMU reads; None for what its page tables do not map."""
        data = b""
        while size:
            pa = self._translate(va)
            if pa is None:
                return None
            length = min(size, PAGE - va % PAGE)
            data += self.read(pa, length)
            va, size = va + length, size - length
        return data

    def _translate(self, va: int) -> int | None:
        table = self.cpu.cr3 & ADDRESS
        for level in range(self.levels, 0, -1):
            shift = 12 + 9 * (level - 1)
            at = table + 8 * (va >> shift & 511)
            entry = int.from_bytes(self.read(at, 8), "little")
            if not entry & 1:
                return None
            if level == 1 or entry & 0x80:
                inside = (1 << shift) - 1
                return entry & ADDRESS & ~inside | va & inside
            table = entry & ADDRESS
        return None


class Stub:
    """Serves one machine on a socket, connection after connection."""

    def __init__(self, machine: StubbedMachine, path: Path):
        self.machine = machine
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Stub:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=10)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                for packet in _packets(connection):
                    time.sleep(self.machine.delay)
                    for answer in self._answers(packet):
                        connection.sendall(_framed(answer))

    def _answers(self, packet: str) -> Iterator[str]:
        machine = self.machine
        machine.packets.append(packet)
        if packet.startswith("qSupported"):
            yield f"PacketSize={PACKET:x};qXfer:features:read+"
        elif packet.startswith("qXfer:features:read:target.xml:"):
            start, size = (int(x, 16) for x in packet.rsplit(":", 1)[1].split(","))
            part = self._description()[start : start + size]
            yield ("m" if len(part) == size else "l") + part
        elif packet == "?":
            yield "S05"
        elif packet[0] in "cs" or packet.startswith("vCont;"):
            if machine.on_continue is not None:
                machine.on_continue()
            yield "S05"
        elif packet[0] == "g":
            yield self._registers().hex()
        elif packet[0] == "m":
            address, size = (int(x, 16) for x in packet[1:].split(","))
            yield self._memory(address, size)
        elif packet.startswith("qRcmd,"):
            if machine.monitor is None:
                yield ""
                return
            text = machine.monitor(bytes.fromhex(packet[6:]).decode())
            for at in range(0, len(text), 1000):
                yield "O" + text[at : at + 1000].encode().hex()
            yield "OK"
        elif packet == "qqemu.PhyMemMode":
            yield str(int(machine.is_physical)) if machine.has_physical_mode else ""
        elif packet.startswith("Qqemu.PhyMemMode:"):
            if machine.has_physical_mode:
                machine.is_physical = packet[-1] == "1"
            yield "OK" if machine.has_physical_mode else ""
        elif packet[0] in "HD":
            yield "OK"
        elif packet.startswith("qAttached"):
            yield "1"
        else:
            yield ""

    def _memory(self, address: int, size: int) -> str:
        machine = self.machine
        size = min(size, PACKET // 2 - 8)
        if machine.is_physical and address // PAGE == (machine.broken or -1) // PAGE:
            return "E14"
        if machine.is_physical:
            return machine.read(address, size).hex()
        data = machine.virtual(address, size)
        return "E14" if data is None else data.hex()

    def _registers(self) -> bytes:
        cpu = self.machine.cpu
        values = {"cs": cpu.cs, "rip": cpu.rip, "cr3": cpu.cr3, "cr4": cpu.cr4}
        return b"".join(
            values.get(name, 0).to_bytes(bits // 8, "little")
            for name, bits, _ in self._described()
        )

    def _described(self) -> Iterator[tuple[str, int, str]]:
        """(name, bits, type) of every register, in the order of the packet."""
        for name in CORE:
            yield name, 64, "code_ptr" if name == "rip" else "int64"
        for name in SHORT:
            yield name, 32, "int32"
        for name in FLOAT:
            yield name, 80, "i387_ext"
        for name in CONTROL:
            yield name, 32, "int"
        for name in SSE:
            yield name, 128, "uint128"
        yield "mxcsr", 32, "int"
        if not self.machine.cpu.hides_cr:
            for name in SYSTEM:
                yield name, 64, "int64"

    def _description(self) -> str:
        begin = {
            "rax": "org.gnu.gdb.i386.core",
            "xmm0": "org.gnu.gdb.i386.sse",
            "cr0": "org.example.system",
        }
        text = '<?xml version="1.0"?><target><architecture>i386:x86-64</architecture>'
        for name, bits, kind in self._described():
            if name in begin:
                text += "</feature>" if name != "rax" else ""
                text += f'<feature name="{begin[name]}">'
            text += f'<reg name="{name}" bitsize="{bits}" type="{kind}"/>'
        return text + "</feature></target>"


def _packets(connection: socket.socket) -> Iterator[str]:
    """Packets as they come, each acknowledged; interrupts are taken for one."""
    buffer = b""
    while True:
        start = buffer.find(b"$")
        end = buffer.find(b"#", start)
        if start >= 0 and 0 <= end <= len(buffer) - 3:
            text = buffer[start + 1 : end].decode("latin-1")
            buffer = buffer[end + 3 :]
            connection.sendall(b"+")
            yield text
            continue
        try:
            more = connection.recv(1 << 16)
        except OSError:
            return
        if not more:
            return
        buffer += more


def _framed(text: str) -> bytes:
    data = text.encode("latin-1")
    return b"$%s#%02x" % (data, sum(data) & 255)
