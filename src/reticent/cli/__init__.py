# SPDX-License-Identifier: Apache-2.0
"""The command line: one file a verb. Its function ``command`` is the verb, its parameters the flags."""
