# SPDX-License-Identifier: Apache-2.0
"""Scanners that run the suspect beside its sibling and compare what they answer."""
