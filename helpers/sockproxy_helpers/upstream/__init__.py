"""The connection to the daemon, and the objects that it has."""
