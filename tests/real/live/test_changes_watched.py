# SPDX-License-Identifier: LGPL-2.1-or-later
"""`vmemmap watch` while a pool grows and shrinks, and what ends it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from ..compare import Compare
from .guest import LiveGuest

POOL = "/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages"
SAVED = 7 * 4096
"""Bytes that HVO saves for a 2M page that keeps one page of its vmemmap's eight."""

GROWTH = 8


def inside(guest: LiveGuest) -> list[dict[str, Any]]:
    """Looks at the pool in the guest, which grows by GROWTH pages behind the first."""
    script = (
        f"{shlex.join(guest.vmemmap)} watch --interval 3 --count 3 --format json "
        "> /run/watch 2>&1 & until [ -s /run/watch ]; do sleep 0.2; done; "
        f"echo $(($(cat {POOL}) + {GROWTH})) > {POOL}; wait; cat /run/watch"
    )
    status, out, err = guest.run("/bin/sh", "-c", script)
    assert (status, err) == (0, ""), err
    return [json.loads(line) for line in out.splitlines()]


def outside(guest: LiveGuest) -> list[dict[str, Any]]:
    """The same from here."""
    with watching(guest, "--interval", "6", "--format", "json") as watch:
        assert watch.stdout is not None
        lines = [watch.stdout.readline()]
        guest.run("/bin/sh", "-c", f"echo $(($(cat {POOL}) + {GROWTH})) > {POOL}")
        lines += [watch.stdout.readline(), watch.stdout.readline()]
        watch.terminate()
    return [json.loads(line) for line in lines]


def watching(guest: LiveGuest, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vmemmap_tools.cli", "--qemu"]
    return subprocess.Popen(
        [*command, str(guest.second_qmp_socket), "watch", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("watch", [inside, outside])
def test_watch_shows_a_pool_that_grows(
    guest: LiveGuest,
    watch: Callable[[LiveGuest], list[dict[str, Any]]],
    compare: Compare,
) -> None:
    guest.run("/bin/sh", "-c", "echo 1 > /proc/sys/vm/hugetlb_optimize_vmemmap")
    _, before, _ = guest.run("/bin/cat", POOL)
    # A busy host may see the pool while it grows: the changes of two looks count.
    looks = watch(guest)[1:]
    _, after, _ = guest.run("/bin/cat", POOL)
    place = f"watch {watch.__name__}"
    compare.equal(f"{place}: the pool grew", int(after) - int(before), GROWTH)
    pools = [
        p
        for look in looks
        for p in look["pools"]
        if (p["size_bytes"], p["node"]) == (2 << 20, 1)
    ]

    def changed(rows: list[dict[str, Any]], key: str) -> int:
        return sum(row[f"{key}_change"] for row in rows)

    compare.equal(f"{place}: total = sysfs", pools[-1]["total"], int(after))
    compare.equal(f"{place}: pages more", changed(pools, "total"), GROWTH)
    compare.equal(f"{place}: optimized more", changed(pools, "optimised"), GROWTH)
    saved = changed(looks, "saved_hugetlb_bytes")
    compare.equal(f"{place}: saved more", saved, GROWTH * SAVED)
