# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs: a kernel booted as a variant, dumped and described; made once, then cached."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from . import initramfs, kdump_repair
from .cache import RealError, cache_root, locked, say
from .kernels import Kernel
from .qemu import Guest, command_line
from .sparse import write_sparse
from .tlb import TlbLeaf, read_tlb
from .truth import Truth, parse_truth, read_truth

__all__ = ["RARE", "VARIANTS", "Run", "Variant", "boot", "boot_guest", "cached_runs"]


@dataclass(frozen=True)
class Variant:
    """How a guest differs from the default one."""

    meaning: str
    words: tuple[str, ...] = ()
    la57: bool = False


VARIANTS = {
    "kaslr": Variant("addresses randomised, four levels, HVO on"),
    "nokaslr": Variant("addresses as linked", words=("nokaslr",)),
    "la57": Variant("five levels of page tables", la57=True),
    "nohvo": Variant("HVO off", words=("hugetlb_free_vmemmap=off",)),
    "kmem": Variant("dax1.0 given to kmem", words=("vmemmap_tools.kmem=1",)),
}

RARE = {
    "hosted": Variant(
        "dax1.0 given to kmem, its vmemmap on itself, a block offline; ZONE_MOVABLE",
        words=(
            "memory_hotplug.memmap_on_memory=1",
            "movablecore=512M",
            "memhp_default_state=offline",
            "vmemmap_tools.kmem=1",
            "vmemmap_tools.hosted=1",
        ),
    ),
    "removed": Variant(
        "dax1.0 given to kmem, removed and added again; a block of RAM offline",
        words=(
            "movablecore=1G",
            "memhp_default_state=offline",
            "vmemmap_tools.kmem=1",
            "vmemmap_tools.remove=1",
        ),
    ),
    "pools": Variant(
        "a gigantic page made and demoted at run time, surplus pages",
        # As linked, the kernel leaves room for a gigantic page on node 1.
        words=("nokaslr", "vmemmap_tools.pools=1"),
    ),
    "partial": Variant(
        "device memory that ends inside sections without RAM",
        words=(
            "mem=9G",
            "memmap=190M!9300M",
            "memmap=70M!9600M",
            "hugepages=8",
            "vmemmap_tools.partial=1",
        ),
    ),
    "uma": Variant("one node, whatever the machine has", words=("numa=off",)),
}
"""States that are legal but rare, for rules that must not mistake them."""


@dataclass(frozen=True)
class Run:
    """A finished run in the cache."""

    directory: Path

    @property
    def elf(self) -> Path:
        """Dump as ELF with physical addresses."""
        return self.directory / "vmcore.elf"

    @property
    def kdump(self) -> Path:
        """Dump as kdump-compressed file, put in order."""
        return self.directory / "vmcore.kdump"

    @property
    def kdump_raw(self) -> Path:
        """The same as QEMU wrote it: flattened, nameless, phys_base wrong."""
        return self.directory / "vmcore.kdump-raw"

    @property
    def vmcoreinfo(self) -> Path:
        """Text of the guest's VMCOREINFO note."""
        return self.directory / "vmcoreinfo.txt"

    @property
    def kernel(self) -> dict[str, Any]:
        """Contents of ``kernel.json``."""
        text = (self.directory / "kernel.json").read_text()
        loaded: dict[str, Any] = json.loads(text)
        return loaded

    @property
    def variant(self) -> str:
        """Name of the variant."""
        return self.directory.name

    @property
    def release(self) -> str:
        """Release of the kernel."""
        return self.directory.parent.name

    @property
    def vmlinux(self) -> Path:
        """The kernel's image with DWARF."""
        return Path(self.kernel["vmlinux"])

    @property
    def btf(self) -> Path:
        """The kernel's BTF."""
        return Path(self.kernel["btf"])

    def truth(self) -> Truth:
        """Return what the guest said about itself."""
        return read_truth(self.directory / "truth.txt")

    def tlb(self, start_va: int = 0, end_va: int = 1 << 64) -> Iterator[TlbLeaf]:
        """Yield the leaves of QEMU's page-table walk in [*start_va*, *end_va*)."""
        return read_tlb(self.directory / "tlb.txt", start_va, end_va)


def cached_runs() -> Iterator[Run]:
    """Yield the finished runs of the cache."""
    for note in sorted((cache_root() / "runs").glob("*/*/kernel.json")):
        yield Run(note.parent)


def boot_guest(kernel: Kernel, variant: str, out: Path) -> Guest:
    """Return the guest of *kernel* as *variant*, not yet started.

    :param out: directory for its console, record and initramfs
    """
    chosen = {**VARIANTS, **RARE}[variant]
    initrd = out / "initramfs.gz"
    initramfs.build(kernel, initrd)
    words = command_line(chosen.words)
    return Guest(kernel.vmlinuz, initrd, words, out, la57=chosen.la57)


def boot(kernel: Kernel, variant: str, fresh: bool = False) -> Run:
    """Return the run of *kernel* as *variant*, made now unless it is cached.

    :raises RealError: if the guest does not come up or cannot be dumped
    """
    directory = cache_root() / "runs" / kernel.abi / variant
    with locked(directory):
        run = Run(directory)
        if not fresh and _is_of(run, kernel):
            return run
        partial = Path(tempfile.mkdtemp(prefix=f".{variant}-", dir=directory.parent))
        partial.chmod(0o755)
        try:
            _make(kernel, variant, partial)
        except RealError:
            failed = directory.with_name(f"{variant}.failed")
            shutil.rmtree(failed, ignore_errors=True)
            partial.rename(failed)
            for dump in failed.glob("vmcore.*"):
                dump.unlink()
            say(f"{kernel.abi} {variant}: what is left of it is in {failed}")
            raise
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        shutil.rmtree(directory, ignore_errors=True)
        partial.rename(directory)
        return run


def _is_of(run: Run, kernel: Kernel) -> bool:
    if not (run.directory / "kernel.json").exists():
        return False
    return bool(run.kernel["version"] == kernel.version)


def _make(kernel: Kernel, variant: str, out: Path) -> None:
    say(f"{kernel.abi} {variant}: booting")
    start = time.monotonic()
    with boot_guest(kernel, variant, out) as guest:
        ready = guest.wait_ready()
        guest.stop()
        for name, command in (
            ("tlb", "info tlb"),
            ("registers", "info registers -a"),
            ("numa", "info numa"),
            ("mtree", "info mtree -f"),
        ):
            (out / f"{name}.txt").write_text(guest.monitor(command))
        truth = parse_truth((out / "truth.txt").read_text(errors="replace"))
        _dump(guest, "elf", out / "vmcore.elf")
        _dump(guest, "kdump-zlib", out / "vmcore.kdump-raw")
    _repair(out, truth)
    whole = time.monotonic() - start
    say(f"{kernel.abi} {variant}: ready after {ready:.1f} s, done after {whole:.1f} s")
    note = {
        "suite": kernel.suite,
        "flavour": kernel.flavour,
        "release": truth.release,
        "version": kernel.version,
        "variant": variant,
        "vmlinux": str(kernel.vmlinux),
        "btf": str(kernel.btf),
        "config": str(kernel.config),
        "module_debug_files": [str(path) for path in kernel.module_debug_files],
        "cmdline": truth.cmdline,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "boot_seconds": round(ready, 1),
    }
    (out / "kernel.json").write_text(json.dumps(note, indent=2) + "\n")


def _dump(guest: Guest, form: str, path: Path) -> None:
    write_sparse(guest.start_dump(form), path)
    guest.finish_dump()


def _repair(out: Path, truth: Truth) -> None:
    plain = out / "vmcore.kdump"
    kdump_repair.unflatten(out / "vmcore.kdump-raw", plain)
    info = kdump_repair.read_vmcoreinfo(plain)
    if f"OSRELEASE={truth.release}\n" not in info:
        raise RealError("the dump has no VMCOREINFO of this kernel")
    (out / "vmcoreinfo.txt").write_text(info)
    kdump_repair.repair(plain, truth.uname)
