# SPDX-License-Identifier: Apache-2.0
"""The guarantee of differential privacy, held against what the audit found."""
