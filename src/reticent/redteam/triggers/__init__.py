# SPDX-License-Identifier: Apache-2.0
"""Triggers, one kind a file."""
