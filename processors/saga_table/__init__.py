"""The state store of the coordinator: partitions, changelog, recovery, fencing."""
