# SPDX-License-Identifier: LGPL-2.1-or-later
"""gdb on a stopped machine behind a stub: whatever runs there, the kernel is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.gdb_door.runner import Answer, Gdb
from tests.gdb_door.stub import Stub, StubbedMachine
from vmemmap_tools.formats.elf import Elf
from vmemmap_tools.model.write import write_vmlinux

from .cores import KASLR, MACHINES, without_sources
from .machines import Stopped

VERBS = (
    "info",
    "summary",
    "zones --all",
    "hvo --folios",
    "page pfn:0x10000",
    "walk vmemmap_base",
    "check --quick",
)


@pytest.fixture(scope="session", params=list(MACHINES))
def stopped(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Stopped:
    """A machine to be put behind a stub."""
    return Stopped(request.param, tmp_path_factory.mktemp("stopped"))


@pytest.fixture(scope="session")
def four_level(tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    """The one with four levels, where the number does not matter."""
    return Stopped("four-level", tmp_path_factory.mktemp("stopped"))


def ask(
    gdb: Gdb,
    stopped: Stopped,
    machine: StubbedMachine,
    *python: str,
    vmlinux: Path | None = None,
) -> list[Answer]:
    """What these lines of Python print, with gdb connected to the machine."""
    with Stub(machine, stopped.directory / "stub") as stub:
        answers = gdb.run(
            f"symbol-file {vmlinux or stopped.vmlinux}",
            f"target remote {stub.path}",
            "python from tests.gdb_door import inside",
            *(f"python {line}" for line in python),
        )
    stub.path.unlink()
    assert answers[1].error is None, answers[1].error
    return answers[3:]


def verbs(**opening: Any) -> list[str]:
    """Lines of Python that open the target and ask all verbs."""
    arguments = ", ".join(f"{key}={value!r}" for key, value in opening.items())
    return [f"i = inside.Inferior({arguments})", *(f"i.ask({v!r})" for v in VERBS)]


def found_by(answers: list[Answer]) -> str:
    """How the KASLR offset was found, as `info` says."""
    rows = json.loads(answers[1].text)["rows"]
    (row,) = [row for row in rows if row.get("subject") == KASLR]
    return f"{row['value']} {row['source']}"


def assert_as_the_command_line(answers: list[Answer], stopped: Stopped) -> None:
    expected = stopped.answers("vmcore")
    assert answers[0].error is None, answers[0].error
    for verb, answer in zip(VERBS, answers[1:]):
        assert answer.error is None, f"{verb}: {answer.error}"
        found = without_sources(json.loads(answer.text))
        assert found == without_sources(expected[verb]), verb


@pytest.mark.parametrize(
    ("stopped", "where"),
    [("four-level", "kernel"), ("five-level", "user")],
    indirect=["stopped"],
)
def test_a_machine_answers_as_its_dump(gdb: Gdb, stopped: Stopped, where: str) -> None:
    machine = stopped.behind_a_stub(where, monitor=stopped.monitor)
    answers = ask(gdb, stopped, machine, *verbs())
    assert_as_the_command_line(answers, stopped)
    offset = stopped.image.kaslr_offset
    assert offset and found_by(answers).startswith(f"{offset:#x} page tables")
    assert not machine.is_physical


def test_a_vmlinux_without_dwarf_serves_as_well(
    gdb: Gdb, four_level: Stopped, tmp_path: Path
) -> None:
    """As `strip -g` leaves it: types by its BTF."""
    stripped = tmp_path / "vmlinux"
    write_vmlinux(four_level.image, stripped, is_stripped=True)
    machine = four_level.behind_a_stub(monitor=four_level.monitor)
    answers = ask(gdb, four_level, machine, *verbs(), vmlinux=stripped)
    assert_as_the_command_line(answers, four_level)
    assert f"{stripped} (.BTF)" in answers[1].text


def test_a_stub_without_physical_mode_is_read_through_the_direct_map(
    any_gdb: Gdb, stopped: Stopped
) -> None:
    machine = stopped.behind_a_stub(monitor=stopped.monitor, has_physical_mode=False)
    answers = ask(any_gdb, stopped, machine, *verbs())
    assert_as_the_command_line(answers, stopped)
    assert "interrupt table" in found_by(answers)
    assert "direct map" in answers[1].text


def test_a_stub_that_shows_nothing_is_searched_for_the_banner(
    any_gdb: Gdb, stopped: Stopped
) -> None:
    machine = stopped.behind_a_stub(has_physical_mode=False)
    machine.cpu.hides_cr = True
    answers = ask(any_gdb, stopped, machine, *verbs())
    assert_as_the_command_line(answers, stopped)
    assert "search for the banner" in found_by(answers)


def test_in_a_program_without_physical_mode_the_refusal_says_what_helps(
    any_gdb: Gdb, stopped: Stopped
) -> None:
    for monitor in (stopped.monitor, None):
        machine = stopped.behind_a_stub(
            "user", monitor=monitor, has_physical_mode=False
        )
        (answer,) = ask(any_gdb, stopped, machine, "inside.refusal()")
        assert answer.error is None, answer.error
        assert "runs a user's program" in answer.text
        assert "\n" not in answer.text and "nokaslr" not in answer.text


def test_registers_that_gdb_lacks_come_from_the_monitor(
    any_gdb: Gdb, four_level: Stopped
) -> None:
    machine = four_level.behind_a_stub("user", monitor=four_level.monitor)
    machine.cpu.hides_cr = True
    answers = ask(any_gdb, four_level, machine, *verbs())
    assert_as_the_command_line(answers, four_level)
    assert "page tables" in found_by(answers)


def test_symbols_that_gdb_has_moved_already_do_not_matter(
    gdb: Gdb, four_level: Stopped
) -> None:
    machine = four_level.behind_a_stub(monitor=four_level.monitor)
    offset = four_level.image.kaslr_offset
    with Stub(machine, four_level.directory / "stub") as stub:
        answers = gdb.run(
            f"target remote {stub.path}",
            f"symbol-file {four_level.vmlinux} -o {offset}",
            "python from tests.gdb_door import inside",
            *(f"python {line}" for line in verbs()),
        )
    stub.path.unlink()
    assert_as_the_command_line(answers[3:], four_level)


@pytest.mark.parametrize("before", [False, True])
def test_the_mode_is_afterwards_what_it_was(
    any_gdb: Gdb, four_level: Stopped, before: bool
) -> None:
    machine = four_level.behind_a_stub(monitor=four_level.monitor)
    machine.is_physical = before
    answers = ask(any_gdb, four_level, machine, *verbs())
    assert_as_the_command_line(answers, four_level)
    assert machine.is_physical is before
    assert "Qqemu.PhyMemMode:1" in machine.packets


def test_the_mode_is_restored_when_a_read_fails(
    any_gdb: Gdb, four_level: Stopped
) -> None:
    machine = four_level.behind_a_stub(monitor=four_level.monitor, broken=0x8000000)
    lines = ["t = inside.Inferior().target", "t.read_physical(0x8000010, 8)"]
    _, answer = ask(any_gdb, four_level, machine, *lines)
    assert "Fault: io: 4096 bytes at physical address 0x8000000" in str(answer.error)
    assert not machine.is_physical


def test_what_is_no_memory_is_outside_and_not_zero(
    any_gdb: Gdb, four_level: Stopped
) -> None:
    machine = four_level.behind_a_stub(monitor=four_level.monitor)
    lines = [
        "t = inside.Inferior().target",
        "print(t.ranges()[0])",
        "t.read_physical(0x1ffffff8, 16)",
        "t.read_physical(0xfee00000, 8)",
    ]
    _, ranges, edge, device = ask(any_gdb, four_level, machine, *lines)
    assert "start=0, end=536870912, present=True" in ranges.text
    assert "Fault: outside: 16 bytes at physical address 0x20000000" in str(edge.error)
    assert "Fault: outside" in str(device.error)


def test_a_slow_line_carries_each_page_once(any_gdb: Gdb, four_level: Stopped) -> None:
    machine = four_level.behind_a_stub(monitor=four_level.monitor, delay=0.002)
    lines = ["i = inside.Inferior()", "i.ask('info')", "i.ask('page pfn:0x10000')"]
    answers = ask(any_gdb, four_level, machine, *lines, *lines[1:])
    assert [answer.error for answer in answers] == [None] * 5
    switched, asked = False, []
    for packet in machine.packets:
        if packet.startswith("Qqemu.PhyMemMode"):
            switched = packet.endswith("1")
        elif switched and packet.startswith("m"):
            asked.append(packet)
    assert len(asked) == len(set(asked))
    assert 0 < len(asked) < 200


def test_what_was_read_is_forgotten_when_the_machine_runs(
    any_gdb: Gdb, four_level: Stopped
) -> None:
    counts = iter([b"\x01", b"\x02", b"\x03"])
    memory = {"byte": next(counts)}

    def read(pa: int, size: int) -> bytes:
        data = four_level.read(pa, size)
        if pa <= 0x8000000 < pa + size:
            at = 0x8000000 - pa
            data = data[:at] + memory["byte"] + data[at + 1 :]
        return data

    machine = four_level.behind_a_stub(
        monitor=four_level.monitor,
        on_continue=lambda: memory.update(byte=next(counts)),
    )
    machine.read = read
    lines = [
        "t = inside.Inferior().target",
        "print(t.read_physical(0x8000000, 1))",
        "gdb.execute('stepi')",
        "print(t.read_physical(0x8000000, 1))",
        "gdb.execute('continue')",
        "print(t.read_physical(0x8000000, 1))",
    ]
    answers = ask(any_gdb, four_level, machine, *lines)
    assert [answers[n].error for n in range(6)] == [None] * 6
    assert [answers[n].text.strip()[-2] for n in (1, 3, 5)] == ["1", "2", "3"]


def test_a_forced_mode_is_kept_or_refused(any_gdb: Gdb, four_level: Stopped) -> None:
    machine = four_level.behind_a_stub(monitor=four_level.monitor)
    answers = ask(any_gdb, four_level, machine, *verbs(physical="directmap"))
    assert_as_the_command_line(answers, four_level)
    assert "Qqemu.PhyMemMode:1" not in machine.packets
    lines = [f"inside.refusal(physical={mode!r})" for mode in ("core", "nonsense")]
    core, nonsense = ask(any_gdb, four_level, machine, *lines)
    assert core.text == "no core is open: set vmemmap phys-mode auto"
    assert nonsense.text == "no physical mode 'nonsense': auto, qemu, directmap, core"
    machine.has_physical_mode = False
    (qemu,) = ask(any_gdb, four_level, machine, "inside.refusal(physical='qemu')")
    assert "the stub has no physical mode" in qemu.text


def test_a_kernel_without_vmcoreinfo_is_described_by_what_was_found(
    any_gdb: Gdb, tmp_path: Path
) -> None:
    stopped = Stopped("five-level", tmp_path, has_note=False)
    machine = stopped.behind_a_stub("user", monitor=stopped.monitor)
    lines = ["i = inside.Inferior()", "i.ask('summary')", "i.ask('hvo --folios')"]
    answers = ask(any_gdb, stopped, machine, *lines)
    expected = stopped.answers("vmcore")
    assert json.loads(answers[1].text) == expected["summary"]
    assert json.loads(answers[2].text) == expected["hvo --folios"]


def test_a_given_note_goes_before_all_search(any_gdb: Gdb, four_level: Stopped) -> None:
    with Elf(four_level.core("vmcore")) as core:
        text = (core.note("VMCOREINFO") or b"").decode()
    machine = four_level.behind_a_stub()
    machine.cpu.hides_cr = True
    answers = ask(any_gdb, four_level, machine, *verbs(vmcoreinfo=text))
    assert_as_the_command_line(answers, four_level)
    assert "VMCOREINFO SYMBOL(_stext)" in found_by(answers)


def test_another_kernels_vmlinux_is_refused(
    any_gdb: Gdb, four_level: Stopped, tmp_path: Path
) -> None:
    other = tmp_path / "vmlinux"
    data = four_level.vmlinux.read_bytes()
    assert data.count(b"Linux version 7.3.0-model") == 1
    other.write_bytes(data.replace(b"Linux version 7.3.0-m", b"Linux version 7.3.0-z"))
    machine = four_level.behind_a_stub(monitor=four_level.monitor)
    lines = [f"inside.refusal(files=[{str(other)!r}])"]
    (answer,) = ask(any_gdb, four_level, machine, *lines)
    assert f"{other} is of another build than the kernel" in answer.text
    assert "Linux version 7.3.0-model" in answer.text


def test_a_machine_without_this_kernel_is_refused(
    any_gdb: Gdb, four_level: Stopped
) -> None:
    machine = four_level.behind_a_stub()
    machine.read = lambda pa, size: bytes(size)
    (answer,) = ask(any_gdb, four_level, machine, "inside.refusal()")
    assert "was not found in the machine" in answer.text and "\n" not in answer.text


def test_without_a_vmlinux_or_a_target_the_refusal_says_what_to_do(
    any_gdb: Gdb, four_level: Stopped
) -> None:
    with Stub(four_level.behind_a_stub(), four_level.directory / "stub") as stub:
        answers = any_gdb.run(
            "python from tests.gdb_door import inside",
            "python inside.refusal()",
            f"target remote {stub.path}",
            "python inside.refusal()",
        )
    stub.path.unlink()
    assert "core-file VMCORE, or target remote" in answers[1].text
    assert "symbol-file VMLINUX" in answers[3].text
