"""Who asks: connection, container, password or token, account; and whose things that person shares."""
