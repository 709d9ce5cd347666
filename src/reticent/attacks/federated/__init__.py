# SPDX-License-Identifier: Apache-2.0
"""Attacks on a recorded federation, by whoever sees the clients' updates: arrays in, scores out."""
