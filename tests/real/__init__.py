# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real kernels as judge: boot Debian kernels in QEMU and dump them.

This package makes the material that the tests of real kernels compare with: vmcores
and, beside each, what the guest and QEMU said about the same moment.  It knows nothing
of ``vmemmap_tools``, so it cannot share its mistakes.
"""
