"""What can go wrong with the local runtime; every message says what to do next.

LocalError
├── DataDirInUse      another process holds the data directory
├── JarsUnavailable   Kafka's jars are missing, or not the ones that were reviewed
└── StartFailed       the child ended, or did not answer in time
"""


class LocalError(RuntimeError):
    """Something of the local runtime cannot be had; the message tells the operator what to do."""


class DataDirInUse(LocalError):
    """A live process already works on this data directory."""


class JarsUnavailable(LocalError):
    """Kafka's jars could not be fetched, or their checksums are not those of the reviewed list."""


class StartFailed(LocalError):
    """A child process ended during its start, or did not answer in time."""
