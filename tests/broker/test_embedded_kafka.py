"""The embedded Kafka: a real broker that keeps its promises over kills, clashes and bad settings."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # not listed in its __all__

from processors.local.errors import DataDirInUse, JarsUnavailable, LocalError, StartFailed
from processors.local.jars import KAFKA_VERSION, Jar, cache_dir, kafka_classpath, locked_jars
from processors.local.kafka import EmbeddedKafka

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]


def wait_for(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"{what} took over {seconds} s"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except FileNotFoundError:
        return False


def produce(broker: EmbeddedKafka, topic: str, value: bytes) -> None:
    delivered: list[object] = []
    producer = Producer({**broker.client, "acks": "all", "message.max.bytes": 10_485_760})
    producer.produce(topic, value, on_delivery=lambda error, _message: delivered.append(error))
    producer.flush(20)
    assert delivered == [None]


def create(broker: EmbeddedKafka, topic: str) -> None:
    admin = AdminClient({**broker.client})
    admin.create_topics([NewTopic(topic, 2)])[topic].result(20)


def read_all(broker: EmbeddedKafka, topic: str, count: int) -> list[bytes]:
    settings = {
        **broker.client,
        "group.id": f"reader-{time.monotonic_ns()}",
        "auto.offset.reset": "earliest",
        "fetch.message.max.bytes": 11_000_000,
    }
    consumer = Consumer(settings)
    consumer.subscribe([topic])
    try:
        messages = consumer.consume(count, timeout=20)
    finally:
        consumer.close()
    return [bytes(message.value() or b"") for message in messages if message.error() is None]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka")) as running:
        yield running


def test_records_and_port_survive_a_kill(tmp_path: Path) -> None:
    """What was acknowledged before a SIGKILL is read after it, by the next to open the folder, at the same address."""
    first = EmbeddedKafka(tmp_path)
    second = EmbeddedKafka(tmp_path)
    try:
        first.start()
        create(first, "kept")
        produce(first, "kept", b"before the kill")
        first.kill()
        assert first.pid is None
        second.start()
        assert second.bootstrap_servers == first.bootstrap_servers
        assert read_all(second, "kept", 1) == [b"before the kill"]
    finally:
        first.kill()
        second.stop()


def test_restart_keeps_the_address(broker: EmbeddedKafka) -> None:
    """A restart is a new process at the same address."""
    address, pid = broker.bootstrap_servers, broker.pid
    broker.restart()
    assert broker.bootstrap_servers == address
    assert broker.pid not in (None, pid)


def test_a_page_of_ten_megabytes_fits(broker: EmbeddedKafka) -> None:
    """The largest archived page passes the broker's own limit."""
    create(broker, "pages")
    page = os.urandom(10_485_760 - 1024)
    produce(broker, "pages", page)
    assert read_all(broker, "pages", 1) == [page]


def test_a_mistyped_topic_is_not_created(broker: EmbeddedKafka) -> None:
    """Producing to an unknown topic fails instead of creating it."""
    errors: list[KafkaError | None] = []
    producer = Producer({**broker.client, "topic.metadata.propagation.max.ms": 1000})
    producer.produce("scrape.urlz", b"x", on_delivery=lambda error, _message: errors.append(error))
    producer.flush(20)
    assert [error and error.name() for error in errors] == ["UNKNOWN_TOPIC_OR_PART"]
    admin = AdminClient({**broker.client})
    assert "scrape.urlz" not in admin.list_topics(timeout=10).topics


def test_only_loopback_is_listened_on(broker: EmbeddedKafka) -> None:
    """No other machine can reach the broker."""
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", broker.port), timeout=2)


def test_a_folder_in_use_is_refused(broker: EmbeddedKafka) -> None:
    """A second broker on the same folder is told which process has it, and leaves that one alone."""
    with pytest.raises(DataDirInUse, match=f"in use by process {broker.pid}"):
        EmbeddedKafka(broker.log_path.parent).start()
    assert broker.pid is not None


def test_a_taken_port_is_refused(tmp_path: Path, broker: EmbeddedKafka) -> None:
    """A port that was asked for and is taken is an error, not another port."""
    with pytest.raises(LocalError, match=f"Port {broker.port} on 127.0.0.1 is taken"):
        EmbeddedKafka(tmp_path, port=broker.port).start()


def test_a_remembered_port_that_is_taken_gives_way(tmp_path: Path, broker: EmbeddedKafka) -> None:
    """A port that was only remembered is given up if another server has it by now."""
    (tmp_path / "ports.json").write_text(f'{{"broker": {broker.port}}}')
    with EmbeddedKafka(tmp_path) as other:
        assert other.port != broker.port


def test_a_start_that_fails_shows_the_broker_s_reason(tmp_path: Path) -> None:
    """A bad setting ends in one error with Kafka's own words, and the folder can be used again."""
    with pytest.raises(StartFailed, match=r"num\.network\.threads"):
        EmbeddedKafka(tmp_path, properties={"num.network.threads": "many"}).start()
    with EmbeddedKafka(tmp_path) as repaired:
        assert repaired.pid is not None


def test_the_address_is_unknown_before_the_first_start(tmp_path: Path) -> None:
    """Asking for the address too early says what to do."""
    with pytest.raises(LocalError, match=r"call start\(\) first"):
        _ = EmbeddedKafka(tmp_path).bootstrap_servers


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child whose parent was killed")
def test_the_broker_dies_with_a_killed_parent(tmp_path: Path) -> None:
    """A SIGKILL of the process that started it leaves no broker behind, even if a pool thread started it."""
    code = f"""
import threading
from pathlib import Path
from processors.local.kafka import EmbeddedKafka
kafka = EmbeddedKafka(Path({str(tmp_path)!r}))
starter = threading.Thread(target=kafka.start)
starter.start()
starter.join()
print(kafka.pid, flush=True)
input()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
    wait_for(lambda: not is_alive(pid), seconds=5, what="the broker's end")


def cache_without(jar: Jar, folder: Path) -> Path:
    """Build a cache that has every jar but one, by links into the real one."""
    for path in kafka_classpath():
        if path.name != jar.file_name:
            (folder / f"kafka-{KAFKA_VERSION}").mkdir(parents=True, exist_ok=True)
            (folder / f"kafka-{KAFKA_VERSION}" / path.name).symlink_to(path)
    return folder


@pytest.fixture
def small_jar() -> Jar:
    kafka_classpath()
    return min(locked_jars(), key=lambda jar: (cache_dir() / f"kafka-{KAFKA_VERSION}" / jar.file_name).stat().st_size)


@contextmanager
def mirror(folder: Path, jar: Jar, content: bytes) -> Iterator[str]:
    """Serve one jar over HTTP as a Maven repository does."""
    place = folder / jar.group.replace(".", "/") / jar.artifact / jar.version
    place.mkdir(parents=True)
    (place / jar.file_name).write_bytes(content)
    (place / f"{jar.file_name}.sha1").write_text(hashlib.sha1(content, usedforsecurity=False).hexdigest())
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_two_processes_fetch_the_same_cache(tmp_path: Path, small_jar: Jar) -> None:
    """Two first starts at once end with one complete, verified cache."""
    cache = cache_without(small_jar, tmp_path / "cache")
    content = (cache_dir() / f"kafka-{KAFKA_VERSION}" / small_jar.file_name).read_bytes()
    code = "from processors.local.jars import kafka_classpath; print(len(kafka_classpath()))"
    with mirror(tmp_path / "maven", small_jar, content) as url:
        env = {**os.environ, "SCRAPESAGA_CACHE": str(cache), "SCRAPESAGA_MAVEN": url}
        both = [subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE) for _ in range(2)]
        counts = [int(process.communicate(timeout=60)[0]) for process in both]
    assert counts == [len(locked_jars())] * 2
    assert (cache / f"kafka-{KAFKA_VERSION}" / small_jar.file_name).read_bytes() == content
    assert not list(cache.rglob(".incoming-*"))


def test_a_jar_that_was_not_reviewed_is_never_run(
    tmp_path: Path, small_jar: Jar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mirror that serves another file under the jar's name is refused, and nothing of it stays in the cache."""
    monkeypatch.setenv("SCRAPESAGA_CACHE", str(cache_without(small_jar, tmp_path / "cache")))
    with mirror(tmp_path / "maven", small_jar, b"something else") as url:
        monkeypatch.setenv("SCRAPESAGA_MAVEN", url)
        with pytest.raises(JarsUnavailable, match="Check the mirror"):
            EmbeddedKafka(tmp_path / "data").start()
    assert not (tmp_path / "cache" / f"kafka-{KAFKA_VERSION}" / small_jar.file_name).exists()


def test_a_damaged_cache_is_noticed(tmp_path: Path, small_jar: Jar) -> None:
    """A jar that changed on disk is named, with what to do about it."""
    cache = cache_without(small_jar, tmp_path)
    damaged = cache / f"kafka-{KAFKA_VERSION}" / small_jar.file_name
    damaged.write_bytes(b"half a jar")
    with pytest.raises(JarsUnavailable, match=rf"{small_jar.file_name}.*Delete it"):
        kafka_classpath(cache)


def test_a_first_use_offline_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without network and without a cache there is one clear error."""
    monkeypatch.setenv("SCRAPESAGA_CACHE", str(tmp_path))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # Not listening: every connection is refused.
        monkeypatch.setenv("SCRAPESAGA_MAVEN", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        with pytest.raises(JarsUnavailable, match="SCRAPESAGA_MAVEN"):
            EmbeddedKafka(tmp_path / "data").start()
