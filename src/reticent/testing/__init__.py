# SPDX-License-Identifier: Apache-2.0
"""What tests of this package, and of attacks and methods written elsewhere, are made with."""
