"""What a person has of the machine: own cgroups, counts, networks."""
