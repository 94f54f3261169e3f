"""The live auditor: reads what the engine writes, while it writes, and says which promise is broken by which record."""
