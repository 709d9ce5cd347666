# SPDX-License-Identifier: Apache-2.0
"""Aggregation rules, one a file."""
