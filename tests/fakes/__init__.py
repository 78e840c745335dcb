# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kernels made by hand for tests: a few pages of memory, and layouts given as data.

`memory` holds bytes, `tables` maps them, `layouts` says what structs look like in which
generation, `target` answers as any Target does, `machine` puts a kernel together and
`pools` and `devices` put folios and device memory into it. Nothing here decodes: what
is read back is compared with numbers that tests take from kernel-reference.md.
"""
