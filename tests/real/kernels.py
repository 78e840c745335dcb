# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian kernels with debug symbols: vmlinuz, vmlinux, BTF, config and modules.

Debian moved files between packages and directories over the years (from 7.x the image
package is a shell, and vmlinuz lies below ``usr/lib/modules``), so files are found by
the shape of their path, never by a fixed one.
"""

from __future__ import annotations

import json
import lzma
import re
import shutil
import struct
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from .cache import RealError, cache_root, locked, require_tool, say
from .packages import AptWorld

__all__ = [
    "FLAVOUR",
    "MODULES",
    "Kernel",
    "cached_kernels",
    "fetch",
    "newest_suite",
    "section",
]

FLAVOUR = "cloud-amd64"

MODULES = (
    "virtio",
    "virtio_ring",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_console",
    "qemu_fw_cfg",
    "libnvdimm",
    "nd_btt",
    "nd_pmem",
    "device_dax",
    "dax_pmem",
    "kmem",
    "dax_hmem",
    "nd_e820",
    "nfit",
    "of_pmem",
)
"""Modules the guest loads, in this order; what a kernel has built in is absent."""


@dataclass(frozen=True)
class Kernel:
    """Files of one kernel; paths are relative to :attr:`directory`'s cache."""

    suite: str
    flavour: str
    abi: str
    version: str

    @property
    def directory(self) -> Path:
        """Directory of this kernel in the cache."""
        return cache_root() / "kernels" / self.suite / self.flavour / self.abi

    @property
    def vmlinuz(self) -> Path:
        """Compressed image to boot."""
        return self.directory / "vmlinuz"

    @property
    def vmlinux(self) -> Path:
        """Image with DWARF and symbols."""
        return self.directory / "vmlinux"

    @property
    def btf(self) -> Path:
        """Contents of vmlinux's ``.BTF`` section."""
        return self.directory / "vmlinux.btf"

    @property
    def config(self) -> Path:
        """Build configuration."""
        return self.directory / "config"

    @property
    def modules(self) -> Path:
        """Directory of the decompressed modules that :data:`MODULES` names."""
        return self.directory / "modules"

    @property
    def module_debug_files(self) -> list[Path]:
        """Debug twins of the modules."""
        return sorted((self.directory / "debug").iterdir())


def cached_kernels() -> Iterator[Kernel]:
    """Yield the kernels that are completely in the cache."""
    for note in sorted((cache_root() / "kernels").glob("*/*/*/kernel.json")):
        yield Kernel(**json.loads(note.read_text()))


def newest_suite(flavour: str = FLAVOUR, fresh: bool = False) -> str:
    """Return which of sid and experimental has the newer kernel.

    :param fresh: ask the archive even if the answer is known
    :raises RealError: if neither has one
    """
    note = cache_root() / "kernels" / f"newest-{flavour}"
    if note.exists() and not fresh:
        return note.read_text().strip()
    suite = _ask_newest(flavour)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(f"{suite}\n")
    return suite


def _ask_newest(flavour: str) -> str:
    found: dict[str, str] = {}
    for suite in ("sid", "experimental"):
        world = AptWorld(suite)
        world.update()
        version = world.show(f"linux-image-{flavour}").get("Version")
        if version:
            found[suite] = version
        else:
            say(f"{suite}: carries no linux-image-{flavour}")
    if not found:
        raise RealError(f"neither sid nor experimental has linux-image-{flavour}")
    newest = "sid" if "sid" in found else "experimental"
    if len(found) == 2:
        test = [found["experimental"], "gt", found["sid"]]
        if not subprocess.run(
            ["dpkg", "--compare-versions", *test], check=False
        ).returncode:
            newest = "experimental"
    say(f"the newest kernel is that of {newest}: {found[newest]}")
    return newest


def fetch(suite: str, flavour: str = FLAVOUR, fresh: bool = False) -> Kernel:
    """Return the newest kernel of *suite*, downloaded unless the cache has one.

    :param fresh: ask the archive for a newer one even if one is cached
    :raises RealError: if the suite, a package or an expected file is missing
    """
    if not fresh:
        cached = [
            kernel
            for kernel in cached_kernels()
            if (kernel.suite, kernel.flavour) == (suite, flavour)
        ]
        if cached:
            return max(cached, key=lambda k: k.vmlinux.stat().st_mtime)
    world = AptWorld(suite)
    world.update()
    abi, version = _find_abi(world, flavour)
    kernel = Kernel(suite, flavour, abi, version)
    with locked(kernel.directory):
        if kernel not in cached_kernels():
            # A new version may keep the ABI's name, and nothing old may stay then.
            shutil.rmtree(kernel.directory, ignore_errors=True)
            _fill(kernel, world)
    return kernel


def _find_abi(world: AptWorld, flavour: str) -> tuple[str, str]:
    meta = f"linux-image-{flavour}"
    version = world.show(meta).get("Version", "")
    for name in world.depends(meta):
        found = re.fullmatch(rf"linux-image-(\d.*-{re.escape(flavour)})", name)
        if found:
            return found.group(1), version
    raise RealError(f"suite {world.suite} carries no kernel package {meta}")


def _fill(kernel: Kernel, world: AptWorld) -> None:
    image = f"linux-image-{kernel.abi}"
    parts = [
        name
        for name in world.depends(image)
        if name.startswith("linux-") and name.endswith(kernel.abi)
    ]
    debs = kernel.directory / "debs"
    files = [world.download(name, debs) for name in [image, *parts]]
    debug = world.download(f"{image}-dbg", debs)
    say(f"{kernel.suite}: unpacking {kernel.abi}")
    for deb in files:
        _unpack(deb, kernel, _image_target)
    _unpack(debug, kernel, _debug_target)
    for path in (kernel.vmlinuz, kernel.vmlinux, kernel.modules / "nd_pmem.ko"):
        if not path.exists():
            raise RealError(f"the packages of {kernel.abi} hold no {path.name}")
    kernel.btf.write_bytes(section(kernel.vmlinux, b".BTF"))
    note = json.dumps(asdict(kernel), indent=2)
    (kernel.directory / "kernel.json").write_text(note + "\n")


def _image_target(path: str) -> str | None:
    name = path.rsplit("/", 1)[-1]
    if path.startswith("./usr/lib/debug/"):
        return None
    if re.match(r"(vmlinuz|config)(-|$)", name):
        return name.split("-", 1)[0]
    found = re.fullmatch(r"([\w-]+)\.ko(\.xz|\.zst)?", name)
    if found and found.group(1).replace("-", "_") in MODULES:
        module = found.group(1).replace("-", "_")
        return f"modules/{module}.ko{found.group(2) or ''}"
    return None


def _debug_target(path: str) -> str | None:
    name = path.rsplit("/", 1)[-1]
    if re.match(r"vmlinux(-|$)", name):
        return "vmlinux"
    found = re.match(r"([\w-]+)\.ko", name)
    if found and found.group(1).replace("-", "_") in MODULES:
        return f"debug/{name}"
    return None


def _unpack(deb: Path, kernel: Kernel, target_of: Callable[[str], str | None]) -> None:
    command = [require_tool("dpkg-deb"), "--fsys-tarfile", str(deb)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=1 << 20) as process:
        assert process.stdout is not None
        try:
            _take(process.stdout, kernel, target_of)
        except tarfile.TarError:
            process.kill()
    if process.returncode:
        deb.unlink()
        raise RealError(f"{deb.name} was damaged: fetch again")


def _take(
    stream: IO[bytes], kernel: Kernel, target_of: Callable[[str], str | None]
) -> None:
    with tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 20) as archive:
        for member in archive:
            target = target_of(member.name) if member.isreg() else None
            source = archive.extractfile(member) if target else None
            if target and source:
                _store(source, kernel.directory / target)


def _store(source: IO[bytes], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".xz":
        path.with_suffix("").write_bytes(lzma.decompress(source.read()))
        return
    if path.suffix == ".zst":
        command = [require_tool("zstd"), "-dc"]
        run = subprocess.run(
            command, input=source.read(), capture_output=True, check=True
        )
        path.with_suffix("").write_bytes(run.stdout)
        return
    with open(path, "wb") as out:
        while block := source.read(1 << 20):
            out.write(block)


def section(path: Path, wanted: bytes) -> bytes:
    """Return the contents of section *wanted* of the 64-bit ELF file *path*."""
    with open(path, "rb") as file:
        header = file.read(64)
        shoff = struct.unpack_from("<Q", header, 0x28)[0]
        entsize, count, names = struct.unpack_from("<3H", header, 0x3A)
        file.seek(shoff)
        table = file.read(entsize * count)
        sections = [
            struct.unpack_from("<IIQQQQ", table, at)
            for at in range(0, entsize * count, entsize)
        ]
        file.seek(sections[names][4])
        strings = file.read(sections[names][5])
        for name, _type, _flags, _addr, offset, size in sections:
            if strings[name : strings.index(b"\0", name)] == wanted:
                file.seek(offset)
                return file.read(size)
    raise RealError(f"{path} has no section {wanted.decode()}")
