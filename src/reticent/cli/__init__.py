# SPDX-License-Identifier: Apache-2.0
"""The command line: one file a verb. The function that bears the file's name is the verb, its parameters the flags."""
