# SPDX-License-Identifier: LGPL-2.1-or-later
"""Run a guest under QEMU and speak QMP with it.

The machine is the same for nearly all: two CPUs, two NUMA nodes (6 GiB and 2 GiB), no
disk, and four stretches of node 0's RAM that the kernel takes for persistent memory.
"""

from __future__ import annotations

import array
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from .cache import RealError, require_tool

__all__ = ["Guest", "command_line"]

_READY = b"vmemmap-tools: ready"
_LOST = (b"Kernel panic", b"vmemmap-tools: failed")

_BOOT_LIMIT = float(os.environ.get("VMEMMAP_TOOLS_BOOT_LIMIT", "900"))
"""Seconds to wait for the guest; generous, for slow hosts."""

_WORDS = (
    "panic=-1",
    "loglevel=4",
    "cryptomgr.notests=1",
    "console=ttyS0",
    "hugetlb_free_vmemmap=on",
    "hugepagesz=1G",
    "hugepages=0:1,1:1",
    "hugepagesz=2M",
    "hugepages=64",
    "memmap=2G!4G",
    "memmap=512M!6G",
    "memmap=256M!6656M",
    "memmap=96M!6912M",
)


def command_line(extra: tuple[str, ...] = ()) -> str:
    """Return the guest kernel's command line; the last of equal words wins."""
    return " ".join(_WORDS + extra)


def _socket(name: str, path: Path) -> str:
    return f"socket,id={name},path={path},server=on,wait=off"


class Guest:
    """A running guest; a context manager that ends it.

    :param vmlinuz: kernel image
    :param initrd: initramfs
    :param words: the kernel's command line
    :param out: directory that receives ``console.txt`` and ``truth.txt``
    :param la57: give the guest five levels of page tables
    :param nodes: GiB of each node

    A program in the guest may answer at ``agent_socket``, through the port "agent".
    """

    def __init__(
        self,
        vmlinuz: Path,
        initrd: Path,
        words: str,
        out: Path,
        la57: bool = False,
        nodes: tuple[int, int] = (6, 2),
    ) -> None:
        self.console = out / "console.txt"
        self.record = out / "truth.txt"
        self._sockets = Path(tempfile.mkdtemp(prefix="vmemmap-tools-"))
        self.qmp_socket = self._sockets / "qmp"
        self.user_qmp_socket = self._sockets / "qmp-user"
        self.gdb_socket = self._sockets / "gdb"
        self.agent_socket = self._sockets / "agent"
        self.log = out / "qemu.txt"
        # QEMU 7.2 computes wrong flags around cmpxchg16b, which SLUB depends on.
        cpu = "max,cx16=off" + ("" if la57 else ",la57=off")
        self._command = [
            require_tool("qemu-system-x86_64"),
            *("-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", cpu),
            *("-smp", "2", "-m", "8192M"),
            *("-object", f"memory-backend-ram,id=m0,size={nodes[0]}G"),
            *("-object", f"memory-backend-ram,id=m1,size={nodes[1]}G"),
            *("-numa", "node,nodeid=0,memdev=m0,cpus=0"),
            *("-numa", "node,nodeid=1,memdev=m1,cpus=1"),
            *("-device", "vmcoreinfo", "-device", "virtio-serial-pci"),
            *("-chardev", f"file,id=truth,path={self.record}"),
            *("-device", "virtserialport,chardev=truth,name=truth"),
            *("-chardev", _socket("agent", self.agent_socket)),
            *("-device", "virtserialport,chardev=agent,name=agent"),
            *("-serial", f"file:{self.console}"),
            *("-qmp", f"unix:{self.qmp_socket},server=on,wait=off"),
            *("-qmp", f"unix:{self.user_qmp_socket},server=on,wait=off"),
            *("-chardev", _socket("gdb", self.gdb_socket)),
            *("-gdb", "chardev:gdb"),
            *("-display", "none", "-vga", "none", "-nic", "none", "-no-reboot"),
            *("-kernel", str(vmlinuz), "-initrd", str(initrd), "-append", words),
        ]

    def __enter__(self) -> Guest:
        self.console.touch()
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._connect()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._qmp.close()
        self._end()

    def kill(self) -> None:
        """End the guest, as if the machine had lost its power."""
        self._process.kill()
        self._process.wait()

    def _end(self) -> None:
        self.kill()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def _connect(self) -> None:
        self._qmp = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + 30
        while True:
            try:
                self._qmp.connect(str(self.qmp_socket))
                break
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RealError(f"QEMU does not start: {self._reason()}") from None
                time.sleep(0.05)
        self._lines = self._qmp.makefile("rb")
        self._lines.readline()
        self.execute("qmp_capabilities")

    def _reason(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no reason given"

    def execute(
        self, command: str, arguments: dict[str, Any] | None = None, fd: int = -1
    ) -> Any:
        """Run a QMP command and return its answer.

        :param fd: file descriptor to pass along, for ``getfd``
        :raises RealError: if QEMU refuses or is gone
        """
        message = json.dumps({"execute": command, "arguments": arguments or {}})
        ancillary = []
        if fd >= 0:
            rights = array.array("i", [fd])
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights.tobytes())]
        self._qmp.sendmsg([message.encode()], ancillary)
        while True:
            line = self._lines.readline()
            if not line:
                raise RealError(f"QEMU is gone: {self._reason()}")
            answer = json.loads(line)
            if "error" in answer:
                raise RealError(f"QEMU refuses {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def wait_ready(self) -> float:
        """Wait for the guest's marker; return the seconds that took.

        :raises RealError: if the guest crashes, exits or takes too long
        """
        start = time.monotonic()
        while True:
            text = self.console.read_bytes()
            spent = time.monotonic() - start
            if _READY in text:
                time.sleep(1)
                return spent
            if self._process.poll() is not None:
                raise RealError(f"the guest ended while booting: see {self.console}")
            for lost in _LOST:
                if lost in text:
                    time.sleep(1)
                    raise RealError(f"{lost.decode()}: see {self.console}")
            if spent > _BOOT_LIMIT:
                raise RealError(f"not ready after {spent:.0f} s: see {self.console}")
            time.sleep(0.2)

    def stop(self) -> None:
        """Halt the guest's CPUs."""
        self.execute("stop")

    def resume(self) -> None:
        """Let the guest's CPUs run again."""
        self.execute("cont")

    def monitor(self, command: str) -> str:
        """Return what QEMU's human monitor prints for *command*."""
        arguments = {"command-line": command}
        text = self.execute("human-monitor-command", arguments)
        return str(text).replace("\r\n", "\n")

    def start_dump(self, form: str, paging: bool = False) -> int:
        """Begin a dump of physical memory; return a descriptor to read it from.

        The answer to the command comes when all is read: see :meth:`finish_dump`.

        :param paging: dump what the CPUs' page tables map, at virtual addresses
        """
        reader, writer = os.pipe()
        self.execute("getfd", {"fdname": form}, fd=writer)
        os.close(writer)
        arguments = {"paging": paging, "protocol": f"fd:{form}", "format": form}
        self.execute("dump-guest-memory", {**arguments, "detach": True})
        return reader

    def finish_dump(self) -> None:
        """Wait until QEMU says that the dump is complete.

        :raises RealError: if it says that it failed
        """
        while True:
            status = self.execute("query-dump")["status"]
            if status == "completed":
                return
            if status != "active":
                raise RealError(f"QEMU's dump ended as {status}")
            time.sleep(0.05)
