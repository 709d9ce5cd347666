# SPDX-License-Identifier: Apache-2.0
"""Take records or people out of a fine-tuned model, and say how far it worked."""
