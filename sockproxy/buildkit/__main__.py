"""Start the mediator: `python3 -I -m sockproxy.buildkit`."""

from sockproxy.buildkit.server import main

if __name__ == "__main__":
    main()
