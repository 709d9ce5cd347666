# SPDX-License-Identifier: Apache-2.0
"""Numbers by which the field compares unlearning: pure functions of losses and texts, beside them what papers say.

Where the code that is in use departs from its paper both are here, and the name says which is which. Every mean has an
interval over authors or users. None of it needs a model.
"""
