# SPDX-License-Identifier: Apache-2.0
"""Membership inference: was this record trained on? One attack a file, each named as its paper names it."""
