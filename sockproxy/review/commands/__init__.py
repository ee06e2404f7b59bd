"""One module a command: `add` its options, `main` runs it and gives the exit code."""
