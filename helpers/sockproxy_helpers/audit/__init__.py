"""What goes to the audit writer, and recordings of what sessions print."""
