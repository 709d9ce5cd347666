# SPDX-License-Identifier: Apache-2.0
"""``python -m reticent``."""

import sys

from reticent.cli.main import main

sys.exit(main())
