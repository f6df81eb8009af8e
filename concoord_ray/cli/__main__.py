"""``python -m concoord_ray.cli`` is ``concoord``."""

import sys

from concoord_ray.cli import main

sys.exit(main())
