"""Bytes to values and back: wire format, scrape requests, dead letters."""
