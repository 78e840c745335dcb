# SPDX-License-Identifier: LGPL-2.1-or-later
"""The offline model: a simulated machine that writes synthetic dumps.

Imports ``formats`` and nothing else of this project, so that it cannot share the
mistakes of the code it judges.
"""
