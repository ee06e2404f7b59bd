"""Run the command line by `python -m sockproxy`."""

import sys

from sockproxy.cli import main

sys.exit(main())
