# SPDX-License-Identifier: Apache-2.0
"""Private text before any model sees it: read, drop duplicates, split by coin, plant canaries. Imports no torch."""
