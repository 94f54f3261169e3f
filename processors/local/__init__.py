"""A real Kafka, a real ClickHouse engine and what runs on them, on one machine, without Docker or a system Java."""
