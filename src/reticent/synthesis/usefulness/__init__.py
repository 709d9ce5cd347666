# SPDX-License-Identifier: Apache-2.0
"""How useful synthetic text is, by real text that nobody learned from."""
