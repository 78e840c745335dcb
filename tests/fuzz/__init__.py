# SPDX-License-Identifier: LGPL-2.1-or-later
"""A seeded fuzz of everything that the tool reads: files, notes, tables, memory.

A `Subject` is one kind of input. It damages one thing by draws from a seeded generator
and gives the words of a command line, which a worker process runs (`runner`). A seed, a
subject and a number name a run, which `python -m tests.fuzz --only` repeats.
"""
