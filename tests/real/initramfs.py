# SPDX-License-Identifier: LGPL-2.1-or-later
"""Build the guest's initramfs: busybox, modules, ``/init`` and one helper.

The archive is written here, in the ``newc`` form of cpio that the kernel unpacks, so
neither the cpio program nor root is needed for its device node.
"""

from __future__ import annotations

import gzip
import stat
import subprocess
from pathlib import Path

from .cache import RealError, require_tool
from .kernels import MODULES, Kernel

__all__ = ["Archive", "build"]

_GUEST = Path(__file__).parent / "guest"
_CONSOLE = (5, 1)


class Archive:
    """A cpio archive in memory."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._count = 0
        self._directories: set[str] = set()

    def add(
        self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)
    ) -> None:
        """Append one entry; *mode* includes the file type."""
        self._count += 1
        encoded = name.encode() + b"\0"
        inode = 0 if name == "TRAILER!!!" else self._count
        fields = [inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0]
        self._data += b"070701" + b"".join(b"%08X" % field for field in fields)
        self._data += encoded
        self._pad()
        self._data += data
        self._pad()

    def directory(self, name: str) -> None:
        """Append a directory."""
        self.add(name, stat.S_IFDIR | 0o755)

    def program(self, name: str, data: bytes) -> None:
        """Append an executable file."""
        self.add(name, stat.S_IFREG | 0o755, data)

    def file_with_parents(self, path: Path, data: bytes) -> None:
        """Append an executable file at an absolute path, directories before it."""
        for parent in reversed(path.parents[:-1]):
            name = str(parent).lstrip("/")
            if name not in self._directories:
                self._directories.add(name)
                self.directory(name)
        self.program(str(path).lstrip("/"), data)

    def finish(self) -> bytes:
        """Close the archive and return its bytes."""
        self.add("TRAILER!!!", 0)
        return bytes(self._data)

    def _pad(self) -> None:
        self._data += bytes(-len(self._data) % 4)


def build(kernel: Kernel, out: Path) -> None:
    """Write the initramfs for *kernel*, compressed, to file *out*.

    :raises RealError: if the helper cannot be compiled or busybox is not static
    """
    archive = Archive()
    for name in ("bin", "dev", "modules"):
        archive.directory(name)
    archive.add("dev/console", stat.S_IFCHR | 0o600, device=_CONSOLE)
    archive.program("init", (_GUEST / "init.sh").read_bytes())
    archive.program("bin/busybox", _busybox())
    archive.program("bin/hold", _compile_helper(out.with_suffix(".hold")))
    archive.add("modules/order", stat.S_IFREG | 0o644, _lines(MODULES))
    for module in sorted(kernel.modules.glob("*.ko")):
        archive.add(f"modules/{module.name}", stat.S_IFREG | 0o644, module.read_bytes())
    out.write_bytes(gzip.compress(archive.finish(), 1))


def _lines(names: tuple[str, ...]) -> bytes:
    return "".join(f"{name}\n" for name in names).encode()


def _busybox() -> bytes:
    data = Path(require_tool("busybox")).read_bytes()
    if b"/lib64/ld-linux" in data[:4096]:
        raise RealError("busybox needs libraries: install the package busybox-static")
    return data


def _compile_helper(out: Path) -> bytes:
    gcc = require_tool("gcc")
    source = str(_GUEST / "hold.c")
    run = subprocess.run(
        [gcc, "-static", "-O2", "-Wall", "-o", str(out), source],
        check=False,
        capture_output=True,
        text=True,
    )
    if run.returncode:
        reason = run.stderr.strip().splitlines()[-1]
        raise RealError(f"hold.c does not compile (package libc6-dev?): {reason}")
    data = out.read_bytes()
    out.unlink()
    return data
