# SPDX-License-Identifier: Apache-2.0
"""Federated fine-tuning: clients train where their texts lie, and a server sums what they send under a promise."""
