# SPDX-License-Identifier: Apache-2.0
"""Text that models write, and how likely they hold text to be."""
