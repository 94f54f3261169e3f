"""What a process is told: settings, their kinds, the environment, the reference."""
