"""A call from its message to its outcome."""
