"""Benchmarks: `python -m bench` measures the whole engine; the other scripts here measure single parts."""
