# SPDX-License-Identifier: Apache-2.0
"""Synthetic text out of private text: mechanisms, what they promise, and what keeps the promise."""
