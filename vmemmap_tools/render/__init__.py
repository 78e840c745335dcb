# SPDX-License-Identifier: LGPL-2.1-or-later
"""Turn a Report into text: the only place that formats, and it never computes."""
