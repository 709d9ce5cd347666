# SPDX-License-Identifier: Apache-2.0
"""File formats, one a file. A new file here (or an entry point of the group of this name) is a new format."""
