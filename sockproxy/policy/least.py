"""The least traffic of a role, also of who has none: the front needs no more of the schema."""

from __future__ import annotations

# With fewer, a docker command does not work: `docker run -it` alone has three connections, and compose more.
LEAST_TRAFFIC = {"connections": 32, "streams": 16, "requests": 20}
