# SPDX-License-Identifier: Apache-2.0
"""Single updates of a federation's clients: what whoever sees them learns of the clients' texts."""
