# SPDX-License-Identifier: Apache-2.0
"""Identifiers: their rank among controls of the same form."""
