"""What travels between the processors: message schemas, record schemas."""
