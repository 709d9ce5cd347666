# SPDX-License-Identifier: Apache-2.0
"""Planted secrets and their exposure."""
