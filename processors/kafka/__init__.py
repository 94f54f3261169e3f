"""Clients of Kafka without Faust."""
