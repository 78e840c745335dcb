# SPDX-License-Identifier: LGPL-2.1-or-later
# Two commands set everything up on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-real sweep fuzz lint bench clean

# The stamp holds the install; it is renewed when the package's metadata changes.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

# A synthetic two-node server: built in a second, then looked at.
demo: $(VENV)/.installed
	$(BIN)/vmemmap model build two-node -o demo
	$(BIN)/vmemmap -c demo/vmcore -s demo/vmlinux summary
	$(BIN)/vmemmap -c demo/vmcore -s demo/vmlinux hvo
	$(BIN)/vmemmap -c demo/vmcore -s demo/vmlinux page pfn:0x140123

# A process for each core; the tests of a file share its machines.
test: $(VENV)/.installed
	$(BIN)/pytest -n auto --dist loadfile

# Boots real kernels under QEMU; needs root with apt, or the packages it names.
test-real: $(VENV)/.installed
	$(BIN)/pytest tests/real

# Leaves every page out of small machines, one at a time (docs/reliability.md).
sweep: $(VENV)/.installed
	$(BIN)/python -m tests.sweep

# Damaged input by the thousand: files, notes, tables, memory.
FUZZ_RUNS ?= 20000
FUZZ_SEED ?= 1
fuzz: $(VENV)/.installed
	$(BIN)/python -m tests.fuzz --runs $(FUZZ_RUNS) --seed $(FUZZ_SEED)

bench: $(VENV)/.installed
	$(BIN)/python -m tests.bench

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist
