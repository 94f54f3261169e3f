"""From a pipeline in YAML to a pinned plan, and where plans are kept."""
