"""Typed fields out of HTML: pure functions from a page's text to JSON-able values."""
