"""The built-in steps: what a pipeline names in `use`."""
