"""Histories of the whole engine: the production runner and coordinator, with the steps' own code, on a simulated Kafka."""
