"""``python -m cairn.cli`` is ``cairn``."""

import sys

from . import main

sys.exit(main())
