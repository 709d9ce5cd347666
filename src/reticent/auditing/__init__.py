# SPDX-License-Identifier: Apache-2.0
"""One audit: what is audited → which attacks can run → scores → findings → verdict."""
