# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning on private records: one loop, whatever is trained."""
