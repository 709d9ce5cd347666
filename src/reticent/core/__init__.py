# SPDX-License-Identifier: Apache-2.0
"""Data that travel between the steps: records, token tables, findings, manifests.

Imports the standard library, numpy, pyarrow and (for progress bars) rich; nothing else of ours.
"""
