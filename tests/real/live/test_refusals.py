# SPDX-License-Identifier: LGPL-2.1-or-later
"""The program in the guest: how long it takes, and whom the kernel lets read.

Comes last, for a lockdown cannot be taken back, nor can the end of the guest.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

from ..compare import Compare
from .guest import LiveGuest

AS_NOBODY = """
import os, sys
from vmemmap_tools.cli import main
os.setuid(65534)
sys.exit(main(["summary"]))
"""

LOCK_DOWN = """
mount -t securityfs securityfs /sys/kernel/security &&
echo confidentiality > /sys/kernel/security/lockdown
"""


def vmemmap(guest: LiveGuest, *words: str) -> tuple[int, str, str]:
    """Run the program in the guest."""
    return guest.run(*guest.vmemmap, *words)


def refusal(done: tuple[int, str, str]) -> str:
    """The one line of a program that was refused; fails if there is more or less."""
    status, out, err = done
    assert (status, out) == (2, ""), done
    (line,) = err.splitlines()
    return line


def test_a_summary_tells_its_time(guest: LiveGuest, compare: Compare) -> None:
    start = time.monotonic()
    status, _, err = vmemmap(guest, "summary")
    spent = time.monotonic() - start
    start = time.monotonic()
    guest.run(*guest.python, "-c", "import drgn, click")
    imports = time.monotonic() - start
    said = f"{spent:.1f} s, of which Python, drgn and click {imports:.1f}"
    compare.equal("summary in the guest: status, errors", (status, err), (0, ""), said)


def test_hidden_symbols_are_found_in_memory(guest: LiveGuest, compare: Compare) -> None:
    shown = vmemmap(guest, "--format", "json", "hvo")
    guest.run("/bin/sh", "-c", "echo 2 > /proc/sys/kernel/kptr_restrict")
    _, hidden, _ = guest.run("/bin/sh", "-c", "head -n1 /proc/kallsyms")
    compare.equal("kptr_restrict=2: first address", int(hidden.split()[0], 16), 0)
    answer = vmemmap(guest, "--format", "json", "hvo")
    guest.run("/bin/sh", "-c", "echo 0 > /proc/sys/kernel/kptr_restrict")
    compare.equal("kptr_restrict=2: status", answer[0], 0)
    ours, judge = json.loads(answer[1]), json.loads(shown[1])
    for part in ("rows", "totals"):
        compare.equal(f"kptr_restrict=2: {part} = without", ours[part], judge[part], "")


IN_DRGN = """
import drgn
from drgn.commands import run_command
prog = drgn.Program()
prog.set_kernel()
run_command(prog, "vmemmap --format json hvo")
"""


def test_drgn_in_the_guest_says_the_same(guest: LiveGuest, compare: Compare) -> None:
    ours = guest.run(*guest.python, "-c", IN_DRGN)
    judge = vmemmap(guest, "--format", "json", "hvo")
    said = f"{len(judge[1])} bytes"
    compare.equal("%vmemmap in the guest's drgn = vmemmap", ours, judge, said)


def test_who_is_not_root_is_told_so(guest: LiveGuest, compare: Compare) -> None:
    line = refusal(guest.run(*guest.python, "-c", AS_NOBODY))
    compare.true("as nobody", "run as root" in line, line)


def test_a_lockdown_is_named(guest: LiveGuest, compare: Compare) -> None:
    status, _, err = guest.run("/bin/sh", "-c", LOCK_DOWN)
    assert status == 0, err
    line = refusal(vmemmap(guest, "summary"))
    compare.true("locked down", "lockdown" in line, line)


def test_a_guest_that_ends_is_a_line(guest: LiveGuest, compare: Compare) -> None:
    command = [sys.executable, "-m", "vmemmap_tools.cli", "--qemu"]
    words = [str(guest.second_qmp_socket), "watch", "--interval", "0.2"]
    with subprocess.Popen(
        [*command, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watch:
        assert watch.stdout is not None
        for _ in range(3):  # the heading and a look
            watch.stdout.readline()
        guest.kill()
        _, err = watch.communicate(timeout=60)
    (line,) = err.splitlines()
    compare.equal("watch of a guest that ends: status", watch.returncode, 2, line)
    compare.true("watch of a guest that ends", "no longer be read" in line, line)
