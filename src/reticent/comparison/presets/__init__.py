# SPDX-License-Identifier: Apache-2.0
"""Whole studies by name, one a file."""
