# SPDX-License-Identifier: Apache-2.0
"""The guarantee of differential privacy, compared with the findings of the audit."""
