"""The former name of `processors.step_model`, which steps outside this project import."""

from processors.step_model import Network
from processors.step_model import StepModel as Outside

__all__ = ["Network", "Outside"]
