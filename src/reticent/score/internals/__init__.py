# SPDX-License-Identifier: Apache-2.0
"""Hidden states and gradients of records."""
