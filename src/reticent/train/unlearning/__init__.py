# SPDX-License-Identifier: Apache-2.0
"""Unlearning as training: one loss a file for what is to be forgotten, and the terms for what is to be retained."""
