"""The kernel: system calls that Python lacks, confinement, and who is at the other end of a connection."""
