# SPDX-License-Identifier: LGPL-2.1-or-later
"""Input that cannot be used: one line that says what and what to do, exit status 2."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .compare import Compare
from .damage import copy_part, headers_only, renamed_note
from .runs import Run, cached_runs

pytestmark = pytest.mark.variants("kaslr")

CLI = [sys.executable, "-m", "vmemmap_tools.cli"]
UNREADABLE = 2
PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2


def vmemmap(
    *words: str | Path, without_privilege: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run the program as a user would, with no debug info where drgn looks."""
    return subprocess.run(
        [*CLI, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={k: v for k, v in os.environ.items() if not k.startswith("DEBUGINFOD")},
        preexec_fn=_drop_override if without_privilege else None,
    )


def _drop_override() -> None:
    """Make file modes count for root as well."""
    libc = ctypes.CDLL(None)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def refuses(
    compare: Compare,
    what: str,
    ended: subprocess.CompletedProcess[str],
    *said: str,
) -> None:
    """Compare with a refusal: status 2, nothing printed, one line with these words."""
    lines = ended.stderr.splitlines()
    compare.equal(f"{what}: exit status", ended.returncode, UNREADABLE)
    compare.equal(
        f"{what}: lines of answer and of error", (ended.stdout, len(lines)), ("", 1)
    )
    compare.true(
        f"{what}: says what and what to do",
        lines[0].startswith("vmemmap: ") and all(words in lines[0] for words in said),
        lines[0],
    )


def test_the_kdump_as_qemu_writes_it(run: Run, compare: Compare) -> None:
    ended = vmemmap("-c", run.kdump_raw, "-s", run.vmlinux)
    refuses(compare, "raw kdump", ended, run.kdump_raw.name, "utsname", "format=elf")


def warns(
    compare: Compare, what: str, ended: subprocess.CompletedProcess[str], *said: str
) -> None:
    """Compare with an incomplete dump: a first line on standard error says so."""
    lines = ended.stderr.splitlines() or [""]
    compare.true(f"{what}: not taken for a crash", ended.returncode in (0, 1, 2), "")
    compare.true(
        f"{what}: says that the dump is cut",
        all(words in lines[0] for words in said),
        lines[0],
    )


def test_an_elf_dump_cut_short(run: Run, compare: Compare, scratch: Path) -> None:
    for size in (300, 2000):
        path = headers_only(run.elf, scratch / "cut.elf", size)
        ended = vmemmap("-c", path, "-s", run.vmlinux)
        refuses(compare, f"ELF cut to {size} bytes", ended, "cut.elf", "copy it again")
    for size in (run.elf.stat().st_size // 2, run.elf.stat().st_size - 999):
        path = headers_only(run.elf, scratch / "cut.elf", size)
        ended = vmemmap("-c", path, "-s", run.vmlinux)
        warns(compare, f"ELF cut to {size} bytes", ended, "cut.elf is cut short")


def test_a_kdump_cut_short(run: Run, compare: Compare, scratch: Path) -> None:
    for size in (300, 5000):
        path = copy_part(run.kdump, scratch / "cut.kdump", size)
        ended = vmemmap("-c", path, "-s", run.vmlinux)
        refuses(compare, f"kdump cut to {size} bytes", ended, "copy it again")
    for size in (run.kdump.stat().st_size // 2, -1):
        path = copy_part(run.kdump, scratch / "cut.kdump", size)
        ended = vmemmap("-c", path, "-s", run.vmlinux)
        warns(compare, f"kdump cut to {size} bytes", ended, "cut.kdump is cut short")


def test_an_elf_dump_whose_data_was_lost(
    run: Run, compare: Compare, scratch: Path
) -> None:
    path = headers_only(run.elf, scratch / "lost.elf")
    ended = vmemmap("-c", path, "-s", run.vmlinux)
    refuses(compare, "ELF of zeros", ended, "lost.elf", run.release, "damaged")


def test_the_vmlinux_of_another_kernel(run: Run, compare: Compare, form: str) -> None:
    other = next((r for r in cached_runs() if r.release != run.release), None)
    if other is None:
        pytest.skip("the cache has no other kernel yet")
    path = {"elf": run.elf, "kdump": run.kdump}[form]
    ended = vmemmap("-c", path, "-s", other.vmlinux)
    refuses(
        compare,
        f"vmlinux of {other.release}",
        ended,
        str(other.vmlinux),
        "another build",
        f"give the vmlinux of {run.release}",
    )


def test_the_btf_of_another_kernel(run: Run, compare: Compare, form: str) -> None:
    """Of the next build of the same release too, whose sizes are all the same."""
    others = {r.release: r for r in cached_runs() if r.release != run.release}
    if not others:
        pytest.skip("the cache has no other kernel yet")
    path = {"elf": run.elf, "kdump": run.kdump}[form]
    for release, other in others.items():
        ended = vmemmap("-c", path, "-s", other.btf)
        refuses(
            compare, f"BTF of {release}", ended, str(other.btf), "BTF of another build"
        )


def test_the_vmcoreinfo_of_another_boot(
    run: Run, compare: Compare, scratch: Path, form: str
) -> None:
    text = run.vmcoreinfo.read_text()
    offset = next(x for x in text.splitlines() if x.startswith("KERNELOFFSET="))
    note = scratch / "note"
    note.write_text(text.replace(offset, "KERNELOFFSET=1000000"))
    path = {"elf": run.elf, "kdump": run.kdump}[form]
    ended = vmemmap("-c", path, "-s", run.vmlinux, "--vmcoreinfo", note)
    refuses(compare, "VMCOREINFO of another boot", ended, path.name, "another boot")


def test_a_dump_without_vmcoreinfo(run: Run, compare: Compare, scratch: Path) -> None:
    path = renamed_note(run.elf, scratch / "bare.elf")
    ended = vmemmap("-c", path, "-s", run.vmlinux)
    refuses(compare, "no VMCOREINFO", ended, "bare.elf", "--vmcoreinfo FILE")


def test_no_vmlinux(run: Run, compare: Compare, form: str) -> None:
    path = {"elf": run.elf, "kdump": run.kdump}[form]
    ended = vmemmap("-c", path, "--types", "dwarf")
    package = f"linux-image-{run.release}-dbg"
    refuses(compare, "no vmlinux", ended, run.release, "-s", package)


def test_files_that_are_no_vmlinux(run: Run, compare: Compare, scratch: Path) -> None:
    text = scratch / "text"
    text.write_text("vmlinux\n")
    module = run.vmlinux.parent / "modules" / "nd_pmem.ko"
    for path, said in (
        (text, "not a vmlinux"),
        (scratch, "directory"),
        (scratch / "absent", "No such file"),
        (run.elf, "is a dump"),
        (module, f"not the vmlinux of {run.release}"),
        (Path(sys.executable), "another build"),
    ):
        ended = vmemmap("-c", run.elf, "-s", path)
        refuses(compare, f"-s {path.name}", ended, str(path), said)


def test_files_that_are_no_dump(run: Run, compare: Compare, scratch: Path) -> None:
    text, empty, noise = (scratch / name for name in ("text", "empty", "noise"))
    text.write_text("vmcore\n")
    empty.touch()
    noise.write_bytes(os.urandom(1 << 16))
    for path, said in (
        (text, "not a dump"),
        (empty, "not a dump"),
        (noise, "not a dump"),
        (run.vmlinux, "no dump; give a vmlinux with -s"),
        (scratch, "directory"),
        (scratch / "absent", "No such file"),
        (Path("/dev/null"), "not a dump"),
    ):
        ended = vmemmap("-c", path, "-s", run.vmlinux)
        refuses(compare, f"-c {path.name}", ended, str(path), said)


def test_files_that_may_not_be_read(run: Run, compare: Compare, scratch: Path) -> None:
    dump = headers_only(run.elf, scratch / "secret.elf")
    dump.chmod(0)
    ended = vmemmap("-c", dump, "-s", run.vmlinux, without_privilege=True)
    refuses(compare, "-c without permission", ended, str(dump), "Permission denied")
    symbols = scratch / "vmlinux"
    symbols.touch(mode=0)
    ended = vmemmap("-c", run.elf, "-s", symbols, without_privilege=True)
    refuses(compare, "-s without permission", ended, str(symbols), "Permission denied")
