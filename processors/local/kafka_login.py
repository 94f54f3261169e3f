"""How clients log in to the embedded Kafka, and how the broker does to itself: passwords in files of the owner alone.

Clients prove that they know theirs without sending it (SCRAM): somebody who takes the port while the broker is down
learns nothing. The broker keeps such users in its own metadata, so it has to be up before the first can be made. For
that, and to talk to itself, it has a listener of its own on a port that changes with each start, and a second password.
"""

from __future__ import annotations

from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not listed in its __all__
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from processors.local.private import kept_password

USER = "scrapesaga"
MECHANISM = "SCRAM-SHA-256"
_BROKER = "broker"
# The least that Kafka takes: a password of 192 random bits can't be guessed at any speed.
_ITERATIONS = 4096
_MODULES = "org.apache.kafka.common.security"
_WITHIN_S = 2.0


class KafkaLogin:
    """The passwords in a broker's folder."""

    def __init__(self, folder: Path) -> None:
        self.password_file = folder / "password"
        self._broker_password_file = folder / "broker-password"

    def for_confluent(self) -> dict[str, str]:
        """Return the settings by which librdkafka's clients log in."""
        return {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": MECHANISM,
            "sasl.username": USER,
            "sasl.password": kept_password(self.password_file),
        }

    def for_settings(self) -> dict[str, str]:
        """Return our own settings, as environment variables, without the password itself."""
        return {
            "SCRAPESAGA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "SCRAPESAGA_SASL_MECHANISM": MECHANISM,
            "SCRAPESAGA_SASL_USERNAME": USER,
            "SCRAPESAGA_SASL_PASSWORD_FILE": str(self.password_file),
        }

    def listeners(self, clients: int, controller: int, internal: int) -> dict[str, str]:
        """Return the broker's settings of its three ports: each asks for a password."""
        password = kept_password(self._broker_password_file)
        plain = (
            f'{_MODULES}.plain.PlainLoginModule required username="{_BROKER}" password="{password}" '
            f'user_{_BROKER}="{password}";'
        )
        return {
            "listeners": f"CLIENTS://127.0.0.1:{clients},INTERNAL://127.0.0.1:{internal},"
            f"CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"CLIENTS://127.0.0.1:{clients},INTERNAL://127.0.0.1:{internal}",
            "listener.security.protocol.map": "CLIENTS:SASL_PLAINTEXT,INTERNAL:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
            "inter.broker.listener.name": "INTERNAL",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "sasl.mechanism.controller.protocol": "PLAIN",
            "listener.name.clients.sasl.enabled.mechanisms": MECHANISM,
            "listener.name.internal.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.controller.sasl.enabled.mechanisms": "PLAIN",
            f"listener.name.clients.{MECHANISM.lower()}.sasl.jaas.config": f"{_MODULES}.scram.ScramLoginModule required;",
            "listener.name.internal.plain.sasl.jaas.config": plain,
            "listener.name.controller.plain.sasl.jaas.config": plain,
        }

    def make_user(self, internal: str) -> bool:
        """Make the clients' user, or give it the password that it has now; tell whether the broker did it."""
        admin = AdminClient(
            {
                "bootstrap.servers": internal,
                "security.protocol": "SASL_PLAINTEXT",
                "sasl.mechanism": "PLAIN",
                "sasl.username": _BROKER,
                "sasl.password": kept_password(self._broker_password_file),
                "reconnect.backoff.max.ms": 200,
                "log_level": 0,
            }
        )
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, _ITERATIONS)
        wish = UserScramCredentialUpsertion(USER, info, kept_password(self.password_file).encode())
        try:
            asked = admin.alter_user_scram_credentials([wish], request_timeout=_WITHIN_S)
            asked[USER].result(_WITHIN_S + 1)
        except (KafkaException, TimeoutError):
            return False
        return True
