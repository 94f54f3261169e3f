"""The embedded Kafka among strangers: whoever doesn't know the password gets nothing on any of its ports."""

from __future__ import annotations

import json
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # not listed in its __all__
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from processors.kafka.credentials import kafka_security
from processors.local.kafka import EmbeddedKafka
from processors.settings.settings import Settings
from processors.transport.app import faust_credentials

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka")) as running:
        yield running


def topics(client: dict[str, str], **changed: str) -> set[str]:
    """Ask for the topics; raises KafkaException if there is no answer."""
    wanted = {name.replace("_", "."): value for name, value in changed.items()}
    asked: dict[str, str | int | float | bool] = {**client, **wanted, "log_level": 0}
    return set(AdminClient(asked).list_topics(timeout=3).topics)


def create(broker: EmbeddedKafka, topic: str) -> None:
    admin = AdminClient({**broker.client})
    admin.create_topics([NewTopic(topic, 1)])[topic].result(20)


def ports(broker: EmbeddedKafka) -> dict[str, int]:
    """Every port that the broker listens on, by its listener's name."""
    written = (broker.log_path.parent / "server.properties").read_text()
    (listeners,) = re.findall(r"^listeners=(.*)$", written, re.MULTILINE)
    return {name: int(port) for name, port in re.findall(r"(\w+)://127\.0\.0\.1:(\d+)", listeners)}


async def test_our_settings_let_every_client_in(broker: EmbeddedKafka) -> None:
    """librdkafka, and aiokafka as Faust's consumer logs in, by the settings that name the password's file."""
    create(broker, "mine")
    assert "mine" in topics(broker.client)
    settings = Settings.from_env(broker.environment)
    assert settings.sasl_password.reveal() not in json.dumps(broker.environment)
    login = credentials_to_aiokafka_auth(faust_credentials(kafka_security(settings)), None)
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap_servers, **login)
    await consumer.start()
    assert "mine" in await consumer.topics()
    await consumer.stop()


@pytest.mark.parametrize(
    "changed",
    [
        {"security_protocol": "PLAINTEXT"},
        {"sasl_password": "wrong"},
        {"sasl_username": "admin"},
        # The password itself is never sent, not even by a client that would.
        {"sasl_mechanism": "PLAIN"},
        {"sasl_mechanism": "SCRAM-SHA-512"},
    ],
)
def test_strangers_are_not_answered(broker: EmbeddedKafka, changed: dict[str, str]) -> None:
    """Without a login, with a wrong one or in another way."""
    with pytest.raises(KafkaException):
        topics(broker.client, **changed)


def test_no_other_port_is_open_to_strangers(broker: EmbeddedKafka) -> None:
    """Neither the broker's own, nor the controller's: without a login, or with the clients' password."""
    found = ports(broker)
    assert found.keys() == {"CLIENTS", "INTERNAL", "CONTROLLER"} and found["CLIENTS"] == broker.port
    for name in ("INTERNAL", "CONTROLLER"):
        for how in ({"security_protocol": "PLAINTEXT"}, {"sasl_mechanism": "PLAIN"}, {}):
            with pytest.raises(KafkaException):
                topics(broker.client, bootstrap_servers=f"127.0.0.1:{found[name]}", **how)


def test_the_password_is_its_owner_s_alone(broker: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of mode 0600 in a folder of 0700; on no command line, in no environment, in no log."""
    folder = broker.log_path.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    secrets = []
    for name in ("password", "broker-password", "server.properties"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name
    for name in ("password", "broker-password"):
        secrets.append((folder / name).read_bytes().strip())
    assert len(set(secrets)) == 2
    seen = broker.log_path.read_bytes()
    if sys.platform == "linux":
        for part in ("cmdline", "environ"):
            seen += Path(f"/proc/{broker.pid}/{part}").read_bytes()
    assert not [secret for secret in secrets if secret in seen]


def test_a_folder_from_before_the_password_is_taken_over(tmp_path: Path) -> None:
    """Topics of a broker that asked for no login are there for those who log in, and for nobody else."""
    with EmbeddedKafka(tmp_path, login=False) as before:
        create(before, "kept")
    with EmbeddedKafka(tmp_path) as after:
        assert after.bootstrap_servers == before.bootstrap_servers
        assert "kept" in topics(after.client)
        with pytest.raises(KafkaException):
            topics(before.client)
        # A password that was lost, or read by somebody: the next start makes another, and the old one is worth nothing.
        old = after.client
        (tmp_path / "password").unlink()
        after.kill()
        after.start()
        assert after.client != old and "kept" in topics(after.client)
        with pytest.raises(KafkaException):
            topics(old)
