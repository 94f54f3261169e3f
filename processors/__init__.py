"""The engine: a saga coordinator, its steps, and what carries records between them."""
