"""Start a root helper: `python3 -I -S -B helpers lifecycle|network|filesystem`.

SECURITY: run by root with no capabilities, no environment that Python reads (-I) and no site code (-S).
"""

import sys

from sockproxy_helpers.process import main

if __name__ == "__main__":
    if sys.argv[1:] not in (["lifecycle"], ["network"], ["filesystem"]):
        raise SystemExit("usage: python3 -I -S -B helpers lifecycle|network|filesystem")
    main(sys.argv[1])
