"""Bytes on their way: pipes, splices, chunks, upgraded connections, heads."""
