"""How Hypothesis runs here: a loaded machine makes an example slow, and says nothing about what is tested."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# The parent is Hypothesis's own profile of CI where CI is set: the same examples in every run.
settings.register_profile("patient", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
