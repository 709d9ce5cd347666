# SPDX-License-Identifier: Apache-2.0
"""Makers of surrogates, one family of kinds a file. Kinds without one get other letters and digits."""
