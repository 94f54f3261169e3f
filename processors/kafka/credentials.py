"""How clients authenticate to Kafka, said once and translated for each client library."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from processors.errors import ConfigurationError
from processors.settings.settings import Settings

_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True, slots=True)
class Security:
    """Protocol and credentials; checked when made. SSL with `certfile` is mutual TLS."""

    protocol: str = "PLAINTEXT"
    mechanism: str | None = None
    username: str | None = None
    password: str | None = None
    cafile: Path | None = None
    """Certificate authorities in PEM; the system's when None."""
    certfile: Path | None = None
    keyfile: Path | None = None

    def __post_init__(self) -> None:
        if self.protocol not in _PROTOCOLS:
            raise ConfigurationError(
                f"Kafka protocol {self.protocol!r} is unknown: use one of {', '.join(_PROTOCOLS)}."
            )
        if self.sasl and self.mechanism not in _MECHANISMS:
            raise ConfigurationError(
                f"{self.protocol} needs a SASL mechanism, not {self.mechanism!r}: use one of {', '.join(_MECHANISMS)}."
            )
        if self.sasl and not (self.username and self.password):
            raise ConfigurationError(f"{self.protocol} needs a username and a password: set both.")
        if self.keyfile and not self.certfile:
            raise ConfigurationError("A key file without a certificate file: set both for mutual TLS.")

    def __repr__(self) -> str:
        # The generated one would put the password into logs and tracebacks.
        return f"Security({self.protocol}, {self.mechanism}, username={self.username!r})"

    @property
    def sasl(self) -> bool:
        """Whether a user name and password are sent."""
        return self.protocol.startswith("SASL_")

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.protocol.endswith("SSL")

    def for_confluent(self) -> dict[str, str]:
        """Settings of confluent-kafka's clients."""
        found = {"security.protocol": self.protocol}
        if self.sasl:
            found["sasl.mechanism"] = self.mechanism or ""
            found["sasl.username"] = self.username or ""
            found["sasl.password"] = self.password or ""
        if self.tls:
            files = {
                "ssl.ca.location": self.cafile,
                "ssl.certificate.location": self.certfile,
                "ssl.key.location": self.keyfile,
            }
            found |= {name: str(path) for name, path in files.items() if path is not None}
        return found

    def tls_context(self) -> ssl.SSLContext | None:
        """The files, loaded; None without TLS. Raises ConfigurationError."""
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=None if self.cafile is None else str(self.cafile))
            if self.certfile is not None:
                context.load_cert_chain(self.certfile, self.keyfile)
        except OSError as error:
            files = ", ".join(str(path) for path in (self.cafile, self.certfile, self.keyfile) if path is not None)
            raise ConfigurationError(f"The TLS files for Kafka can't be loaded ({files}): {error}.") from error
        return context


def kafka_security(settings: Settings) -> Security:
    """Return how clients authenticate to Kafka."""
    return Security(
        protocol=settings.security_protocol,
        mechanism=settings.sasl_mechanism,
        username=settings.sasl_username,
        password=settings.sasl_password.reveal(),
        cafile=settings.ssl_cafile,
        certfile=settings.ssl_certfile,
        keyfile=settings.ssl_keyfile,
    )


def kafka_client(settings: Settings) -> dict[str, str]:
    """Return librdkafka's connection settings."""
    return {"bootstrap.servers": settings.bootstrap_servers, **kafka_security(settings).for_confluent()}
