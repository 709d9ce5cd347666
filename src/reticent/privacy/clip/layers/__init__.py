# SPDX-License-Identifier: Apache-2.0
"""One file a layer type: how its parameters' per-unit gradients follow from its inputs and output gradients."""
