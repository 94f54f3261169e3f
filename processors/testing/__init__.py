from processors.testing.memory import MemoryBroker, MemoryHost, MemoryLog, MemoryRecord, MemoryTopic

__all__ = ["MemoryBroker", "MemoryHost", "MemoryLog", "MemoryRecord", "MemoryTopic"]
