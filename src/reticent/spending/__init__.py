# SPDX-License-Identifier: Apache-2.0
"""One ledger: what all private trainings in some folders cost those whose data they share."""
