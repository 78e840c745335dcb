# SPDX-License-Identifier: LGPL-2.1-or-later
"""What newcomers give the program: one line says what it is and what to do."""

from __future__ import annotations

import gzip
import lzma
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.elf import ET_EXEC, build_id, elf
from tests.samples import Sample
from tests.target.dumps import BUILD_ID, core, write_core
from vmemmap_tools import __version__
from vmemmap_tools.cli import main


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the program; returns the one line with which it refuses."""

    def refuse(*words: str | Path) -> str:
        assert main(list(map(str, words))) == 2
        out, err = capsys.readouterr()
        (line,) = err.splitlines()
        assert out == "" and line.startswith("vmemmap: ") and "unforeseen" not in line
        return line

    return refuse


def vmlinux(folder: Path, name: str = "vmlinux") -> Path:
    path = folder / name
    path.write_bytes(elf(notes=build_id(bytes.fromhex(BUILD_ID)), kind=ET_EXEC))
    return path


# Formats


def test_a_packed_dump_is_named_with_its_packer(
    refusal: Callable[..., str], tmp_path: Path
) -> None:
    for packer, data in (("gzip", gzip.compress(core())), ("xz", lzma.compress(b"x"))):
        path = tmp_path / f"vmcore.{packer}"
        path.write_bytes(data)
        assert f"{path} is packed by {packer}: unpack it first" in refusal("-c", path)


def test_a_packed_vmlinux_is_named_with_its_packer(
    refusal: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "vmlinux.gz"
    path.write_bytes(gzip.compress(vmlinux(tmp_path).read_bytes()))
    line = refusal("-c", write_core(tmp_path), "-s", path)
    assert f"{path} is packed by gzip: unpack it first" in line


def test_for_a_vmlinuz_the_debug_info_package_is_named(
    refusal: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(b"MZ".ljust(0x202, b"\0") + b"HdrS" + bytes(512))
    line = refusal("-c", write_core(tmp_path), "-s", path)
    assert "vmlinux of the kernel's debug info package" in line


def test_raw_memory_is_told_the_way_to_a_vmcore(
    refusal: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "memory.raw"
    path.write_bytes(bytes(1 << 20))
    line = refusal("-c", path)
    assert "perhaps raw memory" in line and "virsh dump --memory-only" in line


def test_debians_placeholder_of_a_system_map_names_the_package(
    refusal: Callable[..., str], sample: Callable[[str], Sample], tmp_path: Path
) -> None:
    path = tmp_path / "System.map-6.12.1-amd64"
    path.write_text(
        "ffffffffffffffff B The real System.map is in the "
        "linux-image-6.12.1-amd64-dbg package\n"
    )
    line = refusal("-c", sample("gen-6.12").core, "-s", path)
    assert "is in the linux-image-6.12.1-amd64-dbg package" in line
    assert "cut short" not in line


# Order and number of files


def test_the_order_of_crash_is_turned_into_options(
    refusal: Callable[..., str], tmp_path: Path
) -> None:
    kernel, dump = vmlinux(tmp_path), write_core(tmp_path)
    expected = f"vmemmap -c {dump} -s {kernel}"
    assert expected in refusal(kernel, dump)
    assert expected in refusal(dump, kernel)
    assert expected in refusal("-c", dump, kernel)
    assert f"vmemmap -c VMCORE -s {kernel}" in refusal(kernel)


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["-c", "part1", "-c", "part2", "hvo"], "-c / --core"),
        (["-c", "a", "--core=b"], "-c / --core"),
        (["--qemu", "a", "--qemu", "a"], "--qemu"),
        (["--types", "btf", "--types", "dwarf"], "--types"),
        (["--vmcoreinfo", "a", "--vmcoreinfo", "b"], "--vmcoreinfo"),
        (["--format", "csv", "--format", "json", "hvo"], "--format"),
        (["hvo", "--node", "0", "--node", "1"], "--node"),
        (["watch", "--interval", "1", "--interval", "2"], "--interval"),
        (["gdb", "--remote", "a:1", "--remote", "b:1"], "--remote"),
        (["model", "build", "x", "-o", "a", "-o", "b"], "-o / --output"),
    ],
)
def test_an_option_of_one_value_that_is_given_twice_is_refused_by_name(
    refusal: Callable[..., str], words: list[str], option: str
) -> None:
    assert f"{option} is given twice, and takes one value" in refusal(*words)


def test_several_cores_are_told_how_parts_of_a_dump_are_joined(
    refusal: Callable[..., str],
) -> None:
    line = refusal("-c", "part1", "-c", "part2", "hvo")
    assert "'makedumpfile --reassemble PART1 PART2 ... OUT'" in line


def test_options_of_many_values_and_flags_may_come_again(
    refusal: Callable[..., str],
) -> None:
    line = refusal("--live", "--live", "-s", "a", "-s", "b", "hvo", "--nonsense")
    assert "No such option" in line


def test_a_directory_with_a_dump_names_the_files_in_it(
    refusal: Callable[..., str], tmp_path: Path
) -> None:
    dump = write_core(tmp_path, name="dump.202601011200")
    (tmp_path / "dmesg.txt").write_text("[    0.000000] Linux version 6.12")
    line = refusal("-c", tmp_path, "hvo")
    assert line == f"vmemmap: {tmp_path} is a directory, not a dump: use -c {dump}"
    kernel = vmlinux(tmp_path, "vmlinux-6.12")
    assert refusal("-c", tmp_path, "hvo").endswith(f"use -c {dump} -s {kernel}")
    write_core(tmp_path, name="dump.202601021200")
    assert "the first of 2 dumps in it" in refusal("-c", tmp_path, "hvo")


def test_a_directory_without_a_dump_says_so(
    refusal: Callable[..., str], tmp_path: Path
) -> None:
    assert "there is no dump in it" in refusal("-c", tmp_path, "hvo")
    assert "there is no dump in it" in refusal("-c", tmp_path, "gdb")


# The note


@pytest.mark.parametrize("release", [None, "", "6.99.0-other"])
def test_a_note_with_no_or_a_wrong_release_names_the_option_and_where_to_look(
    refusal: Callable[..., str],
    sample: Callable[[str], Sample],
    tmp_path: Path,
    release: str | None,
) -> None:
    if release:
        dump = sample("gen-6.12")
        text = tmp_path / "note"
        with open(dump.core, "rb") as file:
            start = file.read(1 << 20)
        note = start[start.index(b"OSRELEASE=") :].split(b"\0")[0].decode()
        lines = note.splitlines()[1:]
        text.write_text("\n".join([f"OSRELEASE={release}", *lines, ""]))
        words = ["-c", dump.core, "-s", dump.vmlinux, "--vmcoreinfo", str(text)]
    else:
        words = ["-c", write_core(tmp_path, core({"OSRELEASE": release}))]
    line = refusal(*words, "hvo")
    assert "--vmcoreinfo FILE" in line
    assert "'strings -a' may show it in the dump itself" in line
    assert "perhaps more than once" in line


# The model, and other ways in


@pytest.mark.parametrize(
    "words",
    [
        ["build", "laptop", "-o", "out"],
        ["list"],
        ["describe", "laptop"],
        ["fault"],
    ],
)
def test_every_verb_of_the_model_says_that_it_needs_numpy(
    refusal: Callable[..., str], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [m for m in sys.modules if m.startswith("vmemmap_tools.model")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numpy", None)
    line = refusal("model", *words)
    assert line == "vmemmap: model needs numpy: pip install 'vmemmap_tools[model]'"


def test_the_package_itself_can_be_run() -> None:
    command = [sys.executable, "-m", "vmemmap_tools", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"vmemmap {__version__}\n"
