# SPDX-License-Identifier: Apache-2.0
"""Ways to fine-tune a model, one a file: each says which parameters are trained. See ``method.py``."""
