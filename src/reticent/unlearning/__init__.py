# SPDX-License-Identifier: Apache-2.0
"""Take a record or a person out of a fine-tuned model, and say how far it worked."""
