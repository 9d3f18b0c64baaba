"""`python -m fvproc` is `fvproc`."""

import sys

from fvproc.cli import main

sys.exit(main())
