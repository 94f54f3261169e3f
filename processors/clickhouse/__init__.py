"""The warehouse: a client of ClickHouse, its errors, its tables and its batches."""
