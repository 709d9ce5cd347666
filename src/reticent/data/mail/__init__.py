# SPDX-License-Identifier: Apache-2.0
"""Mails: where each begins in a file, who wrote it, and what that person wrote in it."""
