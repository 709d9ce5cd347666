# SPDX-License-Identifier: Apache-2.0
"""Scanners of weights: spectra of what tuning changed, read from disk module by module. No model is run."""
