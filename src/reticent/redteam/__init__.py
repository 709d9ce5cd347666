# SPDX-License-Identifier: Apache-2.0
"""Poison a model of your own, to see whether your pipeline would notice. Each folder made here carries a marker."""
