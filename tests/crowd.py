"""How crowded the machine is that a test runs on, for waits that only keep a hung test from hanging for ever.

What a test promises about time is measured by itself (marker `alone`), so there the machine counts as the test's own.
"""

import os
from typing import Final

CROWD: Final = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
"""How many tests run side by side: each has that much less of the machine, and so may take that much longer."""
