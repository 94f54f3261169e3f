"""A broker that asks for TLS and a SCRAM login: every client gets in by the settings, and says which of them is wrong."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its stubs forget to re-export them
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from typer.testing import CliRunner

from processors.cli.app import app
from processors.cli.errors import Exit
from processors.local.kafka import EmbeddedKafka
from processors.local.ports import free_port
from tests.broker.observed_world import Engine, until

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]

USER, PASSWORD = "scraper", "open, sesame = 1"
MECHANISMS = {"SCRAM-SHA-256": ScramMechanism.SCRAM_SHA_256, "SCRAM-SHA-512": ScramMechanism.SCRAM_SHA_512}


@dataclass(frozen=True, slots=True)
class Secure:
    """Where the broker asks for TLS and a login, and what its clients need."""

    servers: str
    authority: Path
    stranger: Path
    """An authority that signed nothing here."""

    def settings(self, **changed: str) -> dict[str, str]:
        """What an operator sets to get in; `changed` by the last part of the variable's name, "" for not set."""
        right = {
            "SECURITY_PROTOCOL": "SASL_SSL",
            "SASL_MECHANISM": "SCRAM-SHA-512",
            "SASL_USERNAME": USER,
            "SASL_PASSWORD": PASSWORD,
            "SSL_CAFILE": str(self.authority),
        }
        return {f"SCRAPESAGA_{name}": value for name, value in {**right, **changed}.items()}


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """A broker with an open port for itself, and one for clients with TLS and SCRAM; strangers may do nothing there."""
    folder = tmp_path_factory.mktemp("secure")
    authority, stranger = (certificate_authority(folder / name) for name in ("authority", "stranger"))
    keystore = server_certificate(folder, authority)
    port, controller, secure_port = free_port(), free_port(), free_port()
    jaas = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    properties = {
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},SECURE://127.0.0.1:{secure_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port},SECURE://127.0.0.1:{secure_port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listener.name.secure.ssl.keystore.type": "PEM",
        "listener.name.secure.ssl.keystore.location": str(keystore),
        "listener.name.secure.sasl.enabled.mechanisms": ",".join(MECHANISMS),
        **{f"listener.name.secure.{name.lower()}.sasl.jaas.config": jaas for name in MECHANISMS},
    }
    with EmbeddedKafka(folder / "kafka", port=port, heap_mb=384, properties=properties, login=False) as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
        for mechanism in MECHANISMS.values():
            info = ScramCredentialInfo(mechanism, 4096)
            (made,) = admin.alter_user_scram_credentials(
                [UserScramCredentialUpsertion(USER, info, PASSWORD.encode())]
            ).values()
            made.result(20)
        yield Secure(f"127.0.0.1:{secure_port}", authority / "cert.pem", stranger / "cert.pem")


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


def certificate_authority(folder: Path) -> Path:
    """A folder with the certificate and the key of an authority of its own."""
    folder.mkdir()
    subject = ("-subj", f"/CN={folder.name}", "-days", "2", "-addext", "basicConstraints=critical,CA:TRUE")
    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject)
    openssl(*new, "-out", str(folder / "cert.pem"), "-keyout", str(folder / "key.pem"))
    return folder


def server_certificate(folder: Path, authority: Path) -> Path:
    """A PEM file as Kafka reads it: the broker's key, and its certificate, which is for 127.0.0.1 alone."""
    key, request, cert = (str(folder / f"broker.{kind}") for kind in ("key", "csr", "crt"))
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=broker", "-keyout", key, "-out", request)
    names = folder / "names.cnf"
    names.write_text("subjectAltName = IP:127.0.0.1\n")
    signed_by = ("-CA", str(authority / "cert.pem"), "-CAkey", str(authority / "key.pem"), "-CAcreateserial")
    openssl("x509", "-req", "-in", request, *signed_by, "-days", "2", "-extfile", str(names), "-out", cert)
    keystore = folder / "broker.pem"
    keystore.write_text(Path(key).read_text() + Path(cert).read_text())
    return keystore


def cli(secure: Secure, *arguments: str, **changed: str) -> tuple[int, str, str]:
    """Run a command against the broker; return exit code, stdout and stderr."""
    env = {"SCRAPESAGA_BOOTSTRAP_SERVERS": secure.servers, **secure.settings(**changed)}
    result = CliRunner().invoke(app, list(arguments), env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_an_engine_runs_over_tls_and_scram(secure: Secure, tmp_path: Path) -> None:
    """Admin client, Faust's consumers, the table's reader, aiokafka's producers and the command line all get in."""
    prefix = f"secure{uuid.uuid4().hex[:8]}"
    with Engine(secure.servers, tmp_path, prefix, extra=secure.settings()) as engine:
        changed = {"TOPIC_PREFIX": prefix, "PARTITIONS": "2"}
        changed["PIPELINES"] = engine.env["SCRAPESAGA_PIPELINES"]
        code, out, err = cli(secure, "submit", "https://shop.test/1", "--pipeline", "default", **changed)
        assert code == 0, err
        job = out.strip()
        until(lambda: engine.states().get(job, {}).get("phase") == "COMPLETED", "the job over TLS")
        # Answered by a coordinator that was restarted: its table came back over TLS too.
        assert engine.coordinator.end() == 0
        engine.coordinator.start()
        until(engine.coordinator.ready, "the coordinator again")
        code, out, err = cli(secure, "redrive", job, "--from", "second", "--wait", "90", "--json", **changed)
        assert code == 0, err
        assert json.loads(out)["job_id"] == job
        assert cli(secure, "topics", "verify", **changed)[0] == 0
        until(lambda: engine.states()[job]["phase"] == "COMPLETED", "the redriven job")
        assert cli(secure, "audit", "verify", **changed)[0] == 0


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_either_mechanism_lets_a_client_in(secure: Secure, mechanism: str) -> None:
    """The setting chooses between SCRAM's two digests."""
    code, _out, err = cli(secure, "topics", "plan", SASL_MECHANISM=mechanism, TOPIC_PREFIX="nobody")
    assert code == 0 and "differences" in err


WRONG_PASSWORD = {"SASL_PASSWORD": "wrong"}
STRANGER = {"SSL_CAFILE": "stranger"}
NO_TLS = {"SECURITY_PROTOCOL": "PLAINTEXT", "SASL_USERNAME": "", "SASL_PASSWORD": "", "SSL_CAFILE": ""}


@pytest.mark.parametrize(
    ("command", "changed", "names"),
    [
        ("topics verify", WRONG_PASSWORD, "SCRAPESAGA_SASL_PASSWORD"),
        ("topics verify", STRANGER, "SCRAPESAGA_SSL_CAFILE"),
        ("list", WRONG_PASSWORD, "SCRAPESAGA_SASL_PASSWORD"),
        ("list", STRANGER, "SCRAPESAGA_SSL_CAFILE"),
        ("list", NO_TLS, "SCRAPESAGA_SECURITY_PROTOCOL"),
        ("worker intake", WRONG_PASSWORD, "SCRAPESAGA_SASL_PASSWORD"),
    ],
)
def test_a_wrong_setting_is_named(
    secure: Secure, tmp_path: Path, command: str, changed: dict[str, str], names: str
) -> None:
    """Whichever client meets it, the command ends with 3 in bounded time and says what to check, in one line."""
    pipeline = tmp_path / "pages.yaml"
    pipeline.write_text("name: pages\nsteps: [{use: fetch}]\n")
    changed = {name: str(secure.stranger) if value == "stranger" else value for name, value in changed.items()}
    code, _out, err = cli(secure, *command.split(), **changed, PIPELINES=str(pipeline))
    assert code == Exit.UNUSABLE, err
    assert names in err and len(err.splitlines()) == 1
