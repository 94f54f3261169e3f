"""The roles that a process can play: thin shells around the rules."""
