# SPDX-License-Identifier: Apache-2.0
"""Engines that reach clients through Flower. Nothing else of this package imports it, and here only functions do."""
