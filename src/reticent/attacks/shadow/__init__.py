# SPDX-License-Identifier: Apache-2.0
"""Membership inference with shadow models: models that were trained like the target, each on a random part of the same
pool, so that it is known what the target would say of a text with and without it in training. One attack a file.
"""
