# SPDX-License-Identifier: Apache-2.0
"""Planted secrets: how exposed they are."""
