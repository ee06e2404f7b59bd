"""Start a helper: `python3 -I -S -B helpers ROLE`.

SECURITY: run with no more capabilities than the role needs (the root helpers have none), no environment that Python
reads (-I) and no site code (-S). A role's modules are the only ones that are loaded.
"""

import sys

if __name__ == "__main__":
    if sys.argv[1:] in (["lifecycle"], ["network"], ["filesystem"]):
        from sockproxy_helpers.calls import process

        process.main(sys.argv[1])
    elif sys.argv[1:] == ["binds"]:
        from sockproxy_helpers.folders import binds

        binds.main()
    elif sys.argv[1:] == ["attacher"]:
        from sockproxy_helpers.folders import attacher

        attacher.main()
    elif sys.argv[1:2] == ["mappable"] and len(sys.argv) == 3:
        from sockproxy_helpers.folders import mappable

        mappable.main(sys.argv[2])
    else:
        raise SystemExit("usage: python3 -I -S -B helpers lifecycle|network|filesystem|binds|attacher|mappable PATH")
