# SPDX-License-Identifier: Apache-2.0
"""Scanners that ask the suspect: one a file."""
