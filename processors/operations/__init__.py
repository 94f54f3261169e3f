"""The use cases of operators, without a terminal in them: what a person asks the engine, and what the topics answer."""
