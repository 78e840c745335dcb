# SPDX-License-Identifier: LGPL-2.1-or-later
"""Read-only views of what a kernel holds, decoded from a Target's bytes."""
