# SPDX-License-Identifier: LGPL-2.1-or-later
"""``vmemmap`` as a command of gdb: files, pipes, errors, settings, completion."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.model.kernels import small as one_node
from tests.tools import output
from vmemmap_tools.cli import main

from .door import LOADER, Small, opening
from .runner import Gdb


def by_command_line(
    small: Small, capsys: pytest.CaptureFixture[str], *words: str
) -> str:
    capsys.readouterr()
    assert main(["-c", str(small.core), "-s", str(small.vmlinux), *words]) == 0
    return capsys.readouterr().out


def test_every_format_is_the_command_lines(
    gdb: Gdb, small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    told = small.told(
        gdb,
        "vmemmap",
        "vmm sections",
        "vmemmap --format csv hvo --folios",
        "vmemmap page pfn:5 --format json",
    )
    assert told == [
        by_command_line(small, capsys),
        by_command_line(small, capsys, "sections"),
        by_command_line(small, capsys, "hvo", "--folios", "--format", "csv"),
        by_command_line(small, capsys, "page", "pfn:5", "--format", "json"),
    ]


def test_an_answer_is_written_to_a_file_or_given_to_a_program(
    any_gdb: Gdb, small: Small, tmp_path: Path
) -> None:
    out = tmp_path / "an answer"
    sections, written, added, piped = small.told(
        any_gdb,
        "vmemmap sections",
        f"vmemmap sections > '{out}'",
        f"vmemmap sections >>'{out}'",
        "pipe vmemmap sections | wc -l > /dev/null",
    )
    assert (written, added, piped) == ("", "", "")
    assert out.read_text() == sections * 2


WRONG = {
    "vmemmap nosuch": "no verb 'nosuch'",
    "vmemmap pages": "did you mean page?",
    "vmemmap page": "name at least one TARGET",
    "vmemmap page pfn:": "pfn: takes a number",
    "vmemmap page pfn:$none": "it has no value here",
    "vmemmap page ffffea00": "no symbol 'ffffea00' in this kernel: 0xffffea00 is",
    "vmemmap walk (1": "a bracket is not closed",
    "vmemmap map > ": "the name of one file",
    "vmemmap map > /no/such/folder/x": "/no/such/folder/x: No such file",
    "vmemmap sections --node x": "is not a valid integer",
    "vmemmap page nosuch->member": 'No symbol "nosuch"',
    "vmemmap compat perhaps": "is not one of",
}


def test_what_goes_wrong_is_one_line(gdb: Gdb, small: Small) -> None:
    answers = small.ask(gdb, *WRONG)
    for (command, reason), answer in zip(WRONG.items(), answers):
        assert answer.error is not None, command
        assert answer.error.startswith("vmemmap: "), answer.error
        assert reason in answer.error, answer.error
        assert "\n" not in answer.error and "Traceback" not in answer.text


def test_an_internal_error_is_one_line_and_debug_shows_where(
    any_gdb: Gdb, small: Small
) -> None:
    _, plain, shown = small.ask(
        any_gdb,
        "python from vmemmap_tools.kernel.kernel import Kernel; Kernel.sections = 5",
        "vmemmap sections",
        "vmemmap --debug sections",
    )
    for answer in (plain, shown):
        assert str(answer.error).startswith("vmemmap: internal error: ")
        assert "\n" not in str(answer.error)


@pytest.mark.parametrize(
    ("setting", "value", "evidence"),
    [
        ("types", "btf", "types BTF"),
        ("types", "dwarf", "types DWARF"),
        ("types", "vmcoreinfo", "types VMCOREINFO"),
        ("phys-mode", "directmap", "the direct map"),
        ("phys-mode", "core", "physical addresses from its headers"),
    ],
)
def test_a_setting_is_obeyed_shown_and_survives_a_reload(
    any_gdb: Gdb, small: Small, setting: str, value: str, evidence: str
) -> None:
    # The setting comes after a first reading: it has to make that one void.
    told = small.ask(
        any_gdb,
        "vmemmap info",
        f"set vmemmap {setting} {value}",
        "vmemmap --format json info",
        f"source {LOADER}",
        f"show vmemmap {setting}",
    )
    if told[2].error is not None:  # a model has no BTF of its own
        assert value == "btf" and "BTF" in told[2].error
    else:
        rows = json.loads(told[2].text)["rows"]
        said = [f"{row['subject']} {row['value']} {row['source']}" for row in rows]
        assert any(evidence in line for line in said), said
    assert f": {value}." in told[4].text


def test_files_that_are_named_are_used(
    any_gdb: Gdb, small: Small, tmp_path: Path
) -> None:
    note = tmp_path / "a note"
    note.write_text("nothing of the kind\n")
    copy = tmp_path / "a copy"
    shutil.copy(small.vmlinux, copy)
    _, refused, _, _, taken = small.ask(
        any_gdb,
        f"set vmemmap vmcoreinfo {note}",
        "lx-pfn_to_page 1",
        "set vmemmap vmcoreinfo",
        f'set vmemmap symbols "{copy}"',
        "vmemmap info",
    )
    assert "is no VMCOREINFO" in str(refused.error)
    assert taken.error is None and str(copy) in taken.text


def test_files_that_say_nothing_are_refused_and_a_program_does_no_harm(
    any_gdb: Gdb, small: Small, tmp_path: Path
) -> None:
    text, stripped = tmp_path / "text", tmp_path / "stripped"
    text.write_text("nothing of the kind\n")
    output("objcopy", "--strip-all", small.vmlinux, stripped)
    answers = small.ask(
        any_gdb,
        f"set vmemmap symbols {tmp_path}/nothing",
        "vmemmap info",
        f"set vmemmap symbols {text}",
        "lx-pfn_to_page 1",
        "set vmemmap symbols",
        "symbol-file",
        f"add-symbol-file {stripped}",
        "vmemmap info",
        f"add-symbol-file {small.vmlinux}",
        "vmemmap page no_such_symbol",
        "lx-virt_to_phys no_such_symbol",
    )
    assert answers[1].error == f"vmemmap: {tmp_path}/nothing: No such file or directory"
    refused = (
        f"lx-pfn_to_page: {text} is neither a vmlinux nor BTF nor a list of symbols"
    )
    assert answers[3].error == refused
    assert answers[7].error is None and "VMCOREINFO" in answers[7].text
    unknown = "no symbol 'no_such_symbol' in this kernel"
    assert str(answers[9].error).startswith(f"vmemmap: {unknown}")
    assert answers[10].error == f"lx-virt_to_phys: {unknown}"


def test_words_are_completed(gdb: Gdb, small: Small) -> None:
    told = small.told(
        gdb,
        "complete vmemmap pa",
        "complete vmemmap sections --for",
        "complete vmemmap sections --format c",
        "complete vmemmap hvo --opt",
        "complete vmemmap map x",
        "complete vmemmap walk linux_ban",
        "complete lx-sym_to_pfn linux_ban",
        "complete set vmemmap types b",
    )
    assert told == [
        "vmemmap page\n",
        "vmemmap sections --format\n",
        "vmemmap sections --format csv\n",
        "vmemmap hvo --optimised\nvmemmap hvo --optimized\n",
        "",
        "vmemmap walk linux_banner\n",
        "lx-sym_to_pfn linux_banner\n",
        "set vmemmap types btf\n",
    ]


def test_help_is_that_of_the_verb(any_gdb: Gdb, small: Small) -> None:
    by_gdb, by_option, prefix = small.told(
        any_gdb, "help vmemmap page", "vmemmap page --help", "help vmemmap"
    )
    assert by_option.strip() in by_gdb
    for name in ("summary", "kaslr", "compat"):
        assert f"vmemmap {name} -- " in prefix


STATUS = "output $vmemmap_status"


def test_the_status_is_that_of_the_last_command(
    any_gdb: Gdb, small: Small, tmp_path: Path
) -> None:
    cut = tmp_path / "cut"
    cut.write_bytes(small.core.read_bytes()[:4096])
    commands = (
        "vmemmap check --rule S1",
        "vmemmap nonsense",
        "vmemmap --help",
        f"vmemmap sections > {tmp_path}/no/such/directory",
        "vmemmap info",
        f"core-file {cut}",
        "vmemmap check",
    )
    asked = [STATUS, *(line for command in commands for line in (command, STATUS))]
    answers = small.ask(any_gdb, *asked)
    statuses = [answer.text for answer in answers[::2]]
    assert statuses == ["2", "0", "2", "0", "2", "0", "0", "2"]
    assert answers[-2].error is not None


def test_an_error_that_check_finds_is_status_1(any_gdb: Gdb, tmp_path: Path) -> None:
    one_node("7.3").write(tmp_path, faults=["section-wrong-map"])
    before = opening(tmp_path / "vmcore", tmp_path / "vmlinux")
    assert any_gdb.text(*before, "vmemmap check --rule S2", STATUS).endswith("1")


def test_a_script_can_end_gdb_with_the_status(any_gdb: Gdb, small: Small) -> None:
    for command, status in ("vmemmap check --rule S1", 0), ("vmemmap nonsense", 2):
        lines = [*opening(small.core, small.vmlinux), command, "quit $vmemmap_status"]
        words = [word for line in lines for word in ("-ex", line)]
        done = subprocess.run(
            [any_gdb.program, "-nx", "-batch", *words],
            env=any_gdb.environment(),
            capture_output=True,
            check=False,
        )
        assert done.returncode == status, done.stderr


def test_symbols_are_moved_when_asked(any_gdb: Gdb, small: Small) -> None:
    before, applied, address, again, report = small.told(
        any_gdb,
        "vmemmap --format json kaslr",
        "vmemmap kaslr --apply",
        "output/x (unsigned long)&linux_banner",
        "vmemmap --format json kaslr --apply",
        "lx-sym_to_pfn linux_banner",
    )
    (row,) = json.loads(before)["rows"]
    banner = small.symbols["linux_banner"]
    assert int(row["kernel_va"], 16) == banner
    assert int(row["gdb_va"], 16) + int(row["offset"], 16) == banner
    assert "0x0" in applied and address == f"{banner:#x}"
    assert json.loads(again)["rows"][0]["offset"] == "0x0"
    assert report.startswith(f"sym_to_pfn({banner:#x})")


def test_symbols_of_nothing_cannot_be_moved(any_gdb: Gdb, small: Small) -> None:
    answer = small.ask(any_gdb, "symbol-file", "vmemmap kaslr")[1]
    assert "gdb has no symbols of this kernel" in str(answer.error)


THEIRS = """python
import sys, types
import gdb
linux = types.ModuleType('linux'); mm = types.ModuleType('linux.mm')
class LxPFN2Page(gdb.Command):
    'PFN to struct page, as the kernel has it'
    def __init__(self):
        super().__init__('lx-pfn_to_page', gdb.COMMAND_USER)
    def invoke(self, arg, from_tty):
        gdb.write('theirs' + chr(10))
LxPFN2Page.__module__ = 'linux.mm'
mm.LxPFN2Page = LxPFN2Page
sys.modules.update({'linux': linux, 'linux.mm': mm})
LxPFN2Page()
"""


def test_the_kernels_own_commands_keep_their_names(any_gdb: Gdb, small: Small) -> None:
    """A stand-in for the kernel's module; it is loaded, then ours is sourced again."""
    told = small.told(
        any_gdb,
        THEIRS,
        f"source {LOADER}",
        "lx-pfn_to_page 16",
        "vmemmap --format csv compat",
        "vmemmap compat force",
        "lx-pfn_to_page 16",
        "vmemmap compat off",
        "lx-pfn_to_page 16",
    )
    assert told[2] == told[7] == "theirs\n"
    assert "lx-pfn_to_page,kernel" in told[3] and "lx-page_to_pfn,ours" in told[3]
    assert told[5].startswith("pfn_to_page(0x10) = ")


def test_ours_are_silent_when_they_are_off(any_gdb: Gdb, small: Small) -> None:
    _, refused, _, answered = small.ask(
        any_gdb,
        "vmemmap compat off",
        "lx-pfn_to_page 16",
        "vmemmap compat on",
        "lx-pfn_to_page 16",
    )
    assert refused.error == "lx-pfn_to_page: is off: vmemmap compat on"
    assert answered.error is None
