"""Messages between processes, and the one loop that waits for them."""
