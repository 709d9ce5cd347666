# SPDX-License-Identifier: Apache-2.0
"""Attacks by whoever holds the weights: they read hidden states and gradients, not tables of tokens."""
