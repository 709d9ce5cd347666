# SPDX-License-Identifier: Apache-2.0
"""Synthetic text: what it gives away of the private texts that it was made from."""
