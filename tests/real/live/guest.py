# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest that keeps running, with the tool inside it and a line to its agent."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.gdb_door.door import LOADER
from tests.gdb_door.runner import Answer

from .. import initramfs
from ..cache import RealError
from ..kernels import Kernel
from ..qemu import Guest, command_line
from ..runs import Run
from ..walk import QemuWalk
from . import bundle
from .gdb_bundle import VMLINUX, files_for_gdb, gdb_inside

__all__ = ["LiveGuest"]


_PROGRAM = "import sys; from vmemmap_tools.cli import main; sys.exit(main())"


class LiveGuest(Guest):
    """A guest whose /init starts the agent; a context manager that ends it."""

    def __init__(self, kernel: Kernel, out: Path) -> None:
        initrd = out / "initramfs"
        initramfs.build(kernel, initrd)
        extra = out / "bundle.cpio"
        bundle.build(extra, files_for_gdb(kernel.vmlinux))
        with open(initrd, "ab") as archive:
            # The kernel unpacks one archive after the other, each at four bytes.
            archive.write(bytes(-archive.tell() % 4))
            archive.write(extra.read_bytes())
        extra.unlink()
        super().__init__(kernel.vmlinuz, initrd, command_line(), out)
        self.second_qmp_socket = self.qmp_socket.with_name("qmp-second")
        self._command += [
            "-qmp",
            f"unix:{self.second_qmp_socket},server=on,wait=off",
        ]
        self.python = (str(Path(sys.executable).resolve()), "-B", "-s")
        self.vmemmap = (*self.python, "-c", _PROGRAM)
        self.kernel = kernel
        self.run_directory = Run(out)

    def __enter__(self) -> LiveGuest:
        super().__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)

    def connect(self, limit: float = 120) -> None:
        """Wait until the agent answers."""
        self._agent = socket.socket(socket.AF_UNIX)
        self._agent.connect(str(self.agent_socket))
        self._agent.settimeout(limit)
        self._answers = self._agent.makefile("rb")
        self.ask("run", command=["/bin/true"])

    def ask(self, action: str, wait: float = 300, **arguments: Any) -> Any:
        """Have the agent do something; return its answer.

        :param wait: seconds to wait for it
        :raises RealError: if it fails or does not answer in time
        """
        self._agent.settimeout(wait)
        line = json.dumps({"do": action, **arguments}) + "\n"
        self._agent.sendall(line.encode())
        try:
            said = json.loads(self._answers.readline() or "null")
        except socket.timeout:
            raise RealError(f"the guest did not {action} within {wait} s") from None
        if said is None:
            raise RealError("the guest's agent is gone")
        if "failure" in said:
            raise RealError(f"in the guest: {said['failure']}")
        return said["answer"]

    def look(self) -> QemuWalk:
        """Have QEMU walk the page tables now, while the guest stands still."""
        self.stop()
        path = self.run_directory.directory / "tlb.txt"
        path.write_text(self.monitor("info tlb"))
        walk = QemuWalk(self.run_directory, self)
        _ = walk.leaves, walk.vmemmap_base, walk.direct_map
        self.resume()
        return walk

    def word(self, pa: int) -> int:
        """Return the 64-bit word at *pa*."""
        return int(self.monitor(f"xp /1xg {pa:#x}").split()[1], 16)

    def run(self, *command: str, limit: float = 300) -> tuple[int, str, str]:
        """Run a program in the guest; return its exit status, output and errors."""
        done = self.ask("run", limit + 10, command=command, limit=limit)
        return done["status"], done["out"], done["err"]

    def gdb(self, *commands: str, has_vmlinux: bool = True) -> list[Answer]:
        """What commands print in a gdb of the guest, on /proc/kcore with our door.

        :raises RealError: if gdb does not come to the end of them
        """
        gdb, answers = gdb_inside(), "/run/gdb-answers"
        before = ["core-file /proc/kcore", f"source {LOADER}"]
        if has_vmlinux:
            before.insert(0, f"symbol-file {VMLINUX}")
        variables = {
            "PYTHONPATH": gdb.environment()["PYTHONPATH"],
            "GDB_COMMANDS": json.dumps([*before, *commands]),
            "GDB_ANSWERS": answers,
        }
        settings = [f"{name}={value}" for name, value in variables.items()]
        status, _, err = self.run("/bin/env", *settings, *gdb.command, limit=900)
        if status or "Traceback" in err:
            raise RealError(f"gdb in the guest ended with status {status}: {err}")
        found = json.loads(self.run("/bin/cat", answers)[1])
        for command, answer in zip(before, found):
            said = answer["error"] or answer["text"]
            if answer["error"] is not None or said.startswith("vmemmap: "):
                raise RealError(f"gdb in the guest: {command}: {said}")
        return [Answer(**answer) for answer in found[len(before) :]]
