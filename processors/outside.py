"""The former name of `processors.step_model`, which steps outside this project import."""

from processors.step_model import Network, Outside

__all__ = ["Network", "Outside"]
