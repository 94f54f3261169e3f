"""Credentials are checked when they are made and mean the same to each client library."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from faust import SASLCredentials

from processors.errors import ConfigurationError
from processors.kafka.credentials import Security
from processors.transport.app import faust_credentials


def test_plaintext_needs_nothing() -> None:
    """The default talks to a local broker."""
    security = Security()
    assert faust_credentials(security) is None
    assert security.for_confluent() == {"security.protocol": "PLAINTEXT"}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_login_reaches_every_client(mechanism: str) -> None:
    """The same user, password and mechanism, in each library's own words."""
    security = Security("SASL_PLAINTEXT", mechanism, "ada", "secret")
    faust = faust_credentials(security)
    assert isinstance(faust, SASLCredentials)
    assert (faust.username, faust.password, faust.mechanism.value) == ("ada", "secret", mechanism)
    assert faust.protocol.value == "SASL_PLAINTEXT"
    assert security.for_confluent() == {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": mechanism,
        "sasl.username": "ada",
        "sasl.password": "secret",
    }


def test_a_login_over_tls_has_both(tmp_path: Path) -> None:
    """SASL_SSL encrypts, and verifies the broker."""
    security = Security("SASL_SSL", "PLAIN", "ada", "secret", cafile=certificate(tmp_path)[0])
    found = faust_credentials(security)
    assert isinstance(found, SASLCredentials)
    assert found.protocol.value == "SASL_SSL"
    assert found.ssl_context is not None and found.ssl_context.check_hostname
    assert security.for_confluent()["ssl.ca.location"] == str(security.cafile)


def test_mutual_tls_sends_a_certificate(tmp_path: Path) -> None:
    """Certificate and key go to each library; a key that doesn't fit its certificate is refused."""
    cert, key = certificate(tmp_path)
    security = Security("SSL", cafile=cert, certfile=cert, keyfile=key)
    assert faust_credentials(security).protocol.value == "SSL"  # type: ignore[union-attr]  # SSLCredentials
    assert security.for_confluent() == {
        "security.protocol": "SSL",
        "ssl.ca.location": str(cert),
        "ssl.certificate.location": str(cert),
        "ssl.key.location": str(key),
    }
    other = certificate(tmp_path / "other")[1]
    with pytest.raises(ConfigurationError, match=r"TLS files .*can't be loaded"):
        faust_credentials(Security("SSL", certfile=cert, keyfile=other))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"protocol": "TLS"}, "use one of PLAINTEXT"),
        ({"protocol": "SASL_SSL", "username": "a", "password": "b"}, "needs a SASL mechanism"),
        ({"protocol": "SASL_SSL", "mechanism": "PLAIN", "username": "a"}, "needs a username and a password"),
        ({"protocol": "SSL", "keyfile": Path("key.pem")}, "set both for mutual TLS"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, str], told: str) -> None:
    """Each mistake is found before a connection is tried, and says what to set."""
    with pytest.raises(ConfigurationError, match=told):
        Security(**wrong)  # type: ignore[arg-type]  # parametrized


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The error names the file, not only that there is none."""
    with pytest.raises(ConfigurationError, match=r"nowhere\.pem"):
        faust_credentials(Security("SSL", cafile=tmp_path / "nowhere.pem"))


def test_the_password_is_in_no_repr() -> None:
    """Logs and tracebacks show who, never the password."""
    assert "secret" not in repr(Security("SASL_PLAINTEXT", "PLAIN", "ada", "secret"))


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    folder.mkdir(exist_ok=True)
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
    subprocess.run([*command, "-out", str(cert), "-keyout", str(key)], check=True, capture_output=True, timeout=30)
    return cert, key
