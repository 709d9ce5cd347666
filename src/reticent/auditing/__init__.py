# SPDX-License-Identifier: Apache-2.0
"""One audit: case → attacks that can run → scores → findings → verdict."""
