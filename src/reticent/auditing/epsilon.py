# SPDX-License-Identifier: Apache-2.0
"""What the recorded coins prove about ε: lower bounds from this one run, for records and for users."""

from __future__ import annotations
