"""The demo: a sample shop, a sample paid API, and a verdict from outside."""
