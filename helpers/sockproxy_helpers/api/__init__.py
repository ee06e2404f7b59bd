"""The Engine API as data: operations and their fields, as tables; strict JSON; names as the daemon reads them."""
