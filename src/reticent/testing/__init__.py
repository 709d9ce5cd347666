# SPDX-License-Identifier: Apache-2.0
"""Tools for tests of this package, and of attacks and methods written elsewhere."""
