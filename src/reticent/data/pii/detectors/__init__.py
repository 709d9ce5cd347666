# SPDX-License-Identifier: Apache-2.0
"""Detectors of personal data, one type a file. A new file here (or an entry point of this group) is a new detector."""
