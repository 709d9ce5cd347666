# SPDX-License-Identifier: Apache-2.0
"""The trained weights of any tuning method as arrays and back, and how LoRA factors are made one."""
