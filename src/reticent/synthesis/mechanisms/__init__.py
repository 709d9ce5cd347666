# SPDX-License-Identifier: Apache-2.0
"""Mechanisms that make synthetic text, one a file."""
