# SPDX-License-Identifier: Apache-2.0
"""Report: what an audit found, as a file for machines (``results.json``) and a page for people (``report.html``)."""
