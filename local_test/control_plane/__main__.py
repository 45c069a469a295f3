"""`python -m local_test.control_plane`: the server itself, which `python -m local_test up` starts in the background."""

from __future__ import annotations

import os
import sys

from local_test.control_plane.service import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
