# SPDX-License-Identifier: Apache-2.0
"""Scan a model, an adapter or data before they are trusted. Nothing is executed, and nothing comes over the network."""
