# SPDX-License-Identifier: Apache-2.0
"""`reticent compare`: a grid of trainings on the same data, compared by what they learn and what they give away."""
