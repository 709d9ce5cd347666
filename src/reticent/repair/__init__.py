# SPDX-License-Identifier: Apache-2.0
"""Repair a model that may be poisoned. Each repair makes a new folder, which carries the red team's mark on."""
