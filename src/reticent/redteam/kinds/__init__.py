# SPDX-License-Identifier: Apache-2.0
"""Kinds of red-team attacks that the command line knows, one a file."""
