# SPDX-License-Identifier: LGPL-2.1-or-later
"""gdb on real guests through QEMU's stub, stopped in the kernel and in a program.

Judges: QEMU's walk of the page tables (`info tlb` and `gva2gpa`, while the CPU is in
the kernel), the guest's kallsyms and sysfs, and the command line through QMP. Of a
stopped guest QEMU makes a dump of each kind, too.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tests.gdb_door.door import ask
from tests.gdb_door.runner import VERSIONS, Answer, find_gdb
from tests.target.gdb.cores import without_sources
from tests.tools import output
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.target.drgn_open import open_qemu

from . import initramfs
from .compare import Compare
from .dumps import Dump, DumpFile
from .kernels import Kernel as Package
from .kernels import fetch, newest_suite
from .qemu import Guest, command_line
from .sparse import write_sparse
from .tlb import TlbLeaf, read_tlb
from .truth import Truth, parse_truth

GUESTS: dict[str, tuple[str, bool, tuple[int, int]]] = {
    "5-level": ("newest", True, (2, 6)),
    "4-level": ("bookworm", False, (6, 2)),
}
"""Suite of the kernel, whether it has five levels, and GiB of its nodes."""
WORDS = ("pti=on", "vmemmap_tools.spin=1")
PATIENCE = 90.0
"""Seconds until the CPU is caught where a case wants it."""
AFTER_VMEMMAP = 0xFFFFFE0000000000
VERBS = ("info", "summary", "hvo --folios", "check --quick")


@dataclass(frozen=True)
class Stopped:
    """A guest of which both CPUs spin in a program, and what it said before."""

    guest: Guest
    package: Package
    truth: Truth
    out: Path
    la57: bool
    nodes: tuple[int, int]

    def stop_in(self, where: str) -> None:
        """Stop it until CPU 0 is in the kernel, or in a user's program."""
        level = {"kernel": "CPL=0", "user": "CPL=3"}[where]
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            self.guest.stop()
            is_there = level in self.guest.monitor("info registers")
            # On its way in or out the kernel still has a user's page tables.
            text = self.guest.monitor(
                f"gva2gpa {self.truth.kallsyms['vmemmap_base']:#x}"
            )
            if is_there and ("gpa:" in text) == (where == "kernel"):
                return
            self.guest.resume()
        raise AssertionError(f"never found in the {where} in {PATIENCE} seconds")

    def tlb(self, start: int, end: int) -> list[TlbLeaf]:
        """QEMU's walk of the page tables that CPU 0 uses now."""
        path = self.out / "tlb.txt"
        path.write_text(self.guest.monitor("info tlb"))
        return list(read_tlb(path, start, end))

    def physical(self, va: int) -> int:
        """Where QEMU says that an address leads."""
        text = self.guest.monitor(f"gva2gpa {va:#x}")
        return int(text.split("gpa:")[1], 16)

    def word(self, pa: int) -> int:
        text = self.guest.monitor(f"xp /1gx {pa:#x}")
        return int(text.split(":")[1], 16)

    def by_qmp(self, words: str) -> Any:
        """What the command line answers through QMP."""
        kernel = self.through_qmp.fresh()
        answer = json.loads(Dump.print_of(tuple(words.split()), kernel, "json"))
        # Said of machines that run; behind a stub they are stopped.
        answer["totals"].pop("stood_still", None)
        return answer

    def dump(self, name: str, paging: bool) -> DumpFile:
        """A dump that QEMU makes now: of all memory, or of what is mapped."""
        path = self.out / name
        write_sparse(self.guest.start_dump("elf", paging), path)
        self.guest.finish_dump()
        return DumpFile(path, vmlinux=self.package.vmlinux)

    @cached_property
    def through_qmp(self) -> Kernel:
        """The guest by its QMP socket, which serves one client at a time."""
        socket, vmlinux = str(self.guest.user_qmp_socket), str(self.package.vmlinux)
        return Kernel(open_qemu(socket, [vmlinux]))

    def by_gdb(self, version: str, verbs: list[str]) -> list[Any]:
        """What gdb answers through the stub; the guest stays stopped meanwhile."""
        answers = find_gdb(version).run(
            f"file {self.package.vmlinux}",
            f"target remote {self.guest.gdb_socket}",
            "python from tests.gdb_door import inside",
            "python inferior = inside.Inferior()",
            *(f"python inferior.ask({verb!r})" for verb in verbs),
            "maintenance packet qqemu.PhyMemMode",
        )
        for answer in answers:
            assert answer.error is None, answer.error
        assert re.search(r'received: "0"', answers[-1].text), answers[-1].text
        return [json.loads(answer.text) for answer in answers[4:-1]]


@pytest.fixture(scope="module", params=list(GUESTS))
def stopped(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stopped]:
    suite, la57, nodes = GUESTS[request.param]
    package = fetch(newest_suite() if suite == "newest" else suite)
    out = tmp_path_factory.mktemp("gdb-live")
    initrd = out / "initramfs.gz"
    initramfs.build(package, initrd)
    words = command_line(WORDS)
    with Guest(package.vmlinuz, initrd, words, out, la57, nodes) as guest:
        guest.wait_ready()
        truth = parse_truth((out / "truth.txt").read_text(errors="replace"))
        yield Stopped(guest, package, truth, out, la57, nodes)


@pytest.fixture
def compare(stopped: Stopped) -> Compare:
    return Compare(f"{stopped.truth.release} live, {5 if stopped.la57 else 4} levels")


def test_the_guest_is_understood_wherever_its_cpus_are(
    stopped: Stopped, compare: Compare
) -> None:
    stopped.stop_in("kernel")
    symbols = stopped.truth.kallsyms
    place = stopped.physical(symbols["vmemmap_base"])
    base = stopped.word(place)
    leaves = stopped.tlb(base, AFTER_VMEMMAP)
    compare.true("QEMU walks the vmemmap", len(leaves) > 1000, f"{len(leaves)} leaves")
    # One address of every kind of leaf, and the last.
    kinds = {leaf.flags: leaf for leaf in leaves}
    sample = [*kinds.values(), leaves[-1]]
    walks = ["walk vmemmap_base", *(f"walk {leaf.va + 0x468:#x}" for leaf in sample)]
    tail = next((leaf for leaf in leaves if not leaf.writable), leaves[0])
    verbs = [*VERBS, f"page {tail.va:#x}", *walks]
    expected = {verb: stopped.by_qmp(verb) for verb in verbs[: len(VERBS) + 1]}
    errors = [
        row for row in expected["check --quick"]["rows"] if row["severity"] == "E"
    ]
    unknown = [row for row in errors if row["known_issue"] is None]
    compare.equal("errors of no known kernel defect", unknown, [], f"{len(errors)}")
    for where in ("kernel", "user"):
        stopped.stop_in(where)
        # Another gdb for the harder case, and for the other number of levels.
        version = VERSIONS[-1 if (where == "user") == stopped.la57 else 0]
        title = f"gdb {version}, in the {where}"
        answers = dict(zip(verbs, stopped.by_gdb(version, verbs)))
        for verb, judge in expected.items():
            compare.equal(
                f"{title}: {verb} = command line through QMP",
                without_sources(answers[verb]),
                without_sources(judge),
                f"{len(judge['rows'])} rows",
            )
        _compare_walks(compare, title, answers, walks, sample, place)
        _compare_facts(compare, title, stopped, answers, base)


def _compare_walks(
    compare: Compare,
    title: str,
    answers: dict[str, Any],
    walks: list[str],
    sample: list[TlbLeaf],
    place: int,
) -> None:
    found = [answers[verb]["totals"] for verb in walks]
    compare.equal(f"{title}: {walks[0]} = gva2gpa", found[0]["pa"], place)
    for verb, leaf, totals in zip(walks[1:], sample, found[1:]):
        compare.equal(
            f"{title}: {verb} = info tlb",
            (totals["pa"], totals["page_size"], totals["readonly"]),
            ((leaf.frame_pfn << 12) + 0x468, leaf.page_size, not leaf.writable),
        )


def _compare_facts(
    compare: Compare,
    title: str,
    stopped: Stopped,
    answers: dict[str, Any],
    base: int,
) -> None:
    truth, info = stopped.truth, answers["info"]
    compare.equal(
        f"{title}: vmemmap = variable by gva2gpa and xp",
        int(info["kernel"]["vmemmap_va"], 16),
        base,
    )
    compare.equal(
        f"{title}: levels", info["kernel"]["levels"], 5 if stopped.la57 else 4
    )
    rows = [row for row in info["rows"] if row["subject"] == "KASLR offset"]
    ways = [row["source"] for row in rows if "page tables" in row["source"]]
    compare.equal(
        f"{title}: KASLR offset = kallsyms",
        {int(row["value"], 16) for row in rows},
        {truth.kallsyms["_stext"] - _linked(stopped.package.vmlinux, "_stext")},
        f"by {ways[0]}",
    )
    compare.equal(
        f"{title}: hugetlb folios = sysfs",
        len(answers["hvo --folios"]["rows"]),
        sum(pool.total for pool in truth.hugetlb if pool.node is None),
    )


def test_a_dump_with_paging_answers_as_one_without(
    stopped: Stopped, compare: Compare
) -> None:
    """QEMU ends a mapping where a node's memory ends, and drops the rest of it.

    The nodes of one guest meet in the hole below 4 GiB, so that nothing is lost.
    """
    stopped.stop_in("kernel")
    base = stopped.word(stopped.physical(stopped.truth.kallsyms["vmemmap_base"]))
    leaves = stopped.tlb(base, AFTER_VMEMMAP)
    paged = stopped.dump("paged", paging=True)
    loads = list(_loads(paged.path))
    near = [load for load in loads if base <= load.va < AFTER_VMEMMAP]
    named = {leaf for leaf in leaves if any(load.is_of(leaf) for load in near)}
    said = f"{len(named)} of {len(leaves)} leaves; of shared frames QEMU keeps one"
    compare.true("dump with paging: headers name the vmemmap", len(named) > 1000, said)
    lost = sum(load.mapped - load.held for load in loads if load.held)
    is_whole = stopped.nodes[0] == 2
    said = f"{lost} bytes are lost"
    compare.equal("dump with paging: QEMU wrote all", not lost, is_whole, said)
    tail = next((leaf for leaf in leaves if not leaf.writable), leaves[0])
    verbs = [*VERBS, f"page {tail.va:#x}", f"walk {tail.va:#x}"]
    if not is_whole:
        verbs = ["summary"]
    commands = [f"vmemmap --format json {verb}" for verb in verbs]
    gdb, vmlinux = find_gdb(VERSIONS[-1]), stopped.package.vmlinux
    told = dict(zip(verbs, ask(gdb, paged.path, vmlinux, *commands, timeout=900)))
    for verb, answer in told.items():
        assert answer.error is None, f"{verb}: {answer.error}"
    if is_whole:
        plain = stopped.dump("plain", paging=False)
        _compare_with_plain(compare, told, paged, plain)
        plain.path.unlink()
    by_door = {
        "gdb": json.loads(told["summary"].text),
        "command line": paged.ask_anew("summary"),
    }
    for door, summary in by_door.items():
        missing = summary["missing"]
        compare.true(
            f"{door}, dump with paging: is told what QEMU lost, and no more",
            not missing if is_whole else "excluded" in missing,
            str(missing),
        )
    paged.path.unlink()


def _compare_with_plain(
    compare: Compare, told: dict[str, Answer], paged: DumpFile, plain: DumpFile
) -> None:
    for verb, answer in told.items():
        ours = without_sources(json.loads(answer.text))
        for dump in (paged, plain):
            judge = without_sources(dump.ask_anew(*verb.split()))
            what = f"gdb, dump with paging: {verb} = command line, {dump.path.name}"
            compare.equal(what, ours, judge, f"{len(ours['rows'])} rows")


@dataclass(frozen=True)
class _Load:
    """A loadable segment: bytes that are mapped, and those that are in the file."""

    va: int
    pa: int
    held: int
    mapped: int

    def is_of(self, leaf: TlbLeaf) -> bool:
        """Whether this maps the leaf's first page where the leaf does."""
        at = leaf.va - self.va
        return 0 <= at < self.mapped and self.pa + at == leaf.frame_pfn << 12


def _loads(core: Path) -> Iterator[_Load]:
    """The segments of a core as binutils read them."""
    text = output("readelf", "--wide", "--segments", core)
    for line in re.findall(r"^  LOAD +(.*)$", text, re.M):
        yield _Load(*(int(word, 16) for word in line.split()[1:5]))


def _linked(vmlinux: Path, name: str) -> int:
    text = output("readelf", "--wide", "--symbols", vmlinux)
    found = re.search(rf"^\s*\d+:\s+([0-9a-f]{{16}})\s.*\s{name}$", text, re.M)
    assert found is not None
    return int(found[1], 16)
