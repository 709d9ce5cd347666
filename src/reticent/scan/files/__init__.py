# SPDX-License-Identifier: Apache-2.0
"""Scanners of files: bytes are read by rules of ours, nothing is loaded and nothing is executed."""
