"""Which addresses may be connected to, by rule and on real sockets."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv6Address, ip_address

import httpcore
import httpx
import pytest

from processors.errors import StepFailed
from processors.http.client import GuardedBackend, open_client
from processors.http.guard import AddressPolicy, BadAllowList, policy_of
from processors.http.url import Url
from processors.settings.settings import Settings

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(20)]

SPECIAL = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "168.63.129.16",
    "192.0.0.192",
    "192.88.99.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:7f00:1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "5f00::1",
    "2001:db8::1",
]
PUBLIC = [
    "93.184.215.14",
    "8.8.8.8",
    "172.32.0.1",
    "100.128.0.1",
    "2606:2800:21f::1",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
]


@pytest.mark.parametrize("address", SPECIAL)
async def test_special_addresses_are_refused(address: str) -> None:
    """Nothing but public unicast is connected to unless it is allowed, however the address is wrapped."""
    assert AddressPolicy().objection("shop.example", address)


@pytest.mark.parametrize("address", PUBLIC)
async def test_public_addresses_are_allowed(address: str) -> None:
    """Public addresses pass, the neighbours of special ranges and NAT64 of public IPv4 among them."""
    assert AddressPolicy().objection("shop.example", address) is None


async def test_allow_private_admits_private_networks_only() -> None:
    """allow_private opens RFC 1918 and unique local addresses, not loopback and not the metadata services."""
    policy = AddressPolicy.allowing([], private=True)
    assert [policy.objection("h", a) for a in ("10.0.0.1", "192.168.1.1", "::ffff:10.0.0.1", "fd12::1")] == [None] * 4
    assert all(policy.objection("h", a) for a in ("127.0.0.1", "169.254.169.254", "fd00:ec2::254", "100.64.0.1"))


async def test_allow_list_takes_networks_addresses_and_hosts() -> None:
    """An entry of the allow-list opens what it names and nothing beside it."""
    policy = AddressPolicy.allowing([" 127.0.0.0/8 ", "", "fd00::/16", "Api.Internal"])
    assert policy.objection("x", "127.0.0.1") is None
    assert policy.objection("x", "::ffff:127.0.0.1") is None
    assert policy.objection("x", "fd00::1") is None
    assert policy.objection("api.internal", "10.0.0.1") is None
    assert policy.objection("api.internal.evil.example", "10.0.0.1")
    assert policy.objection("x", "::1")


async def test_an_allowed_name_opens_no_metadata_service() -> None:
    """A name that is allowed for its private address may be made to resolve to the machine's credentials: not served."""
    policy = AddressPolicy.allowing(["api.internal", "100.100.100.200"])
    assert [policy.objection("api.internal", a) for a in ("127.0.0.1", "10.0.0.1", "::1", "64:ff9b::a00:1")] == [
        None
    ] * 4
    assert policy.objection("api.internal", "169.254.169.254")
    assert policy.objection("api.internal", "::ffff:169.254.169.254")
    assert policy.objection("api.internal", "64:ff9b::a9fe:a9fe")
    assert policy.objection("api.internal", "100.100.100.200") is None


NEVER = ["169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::23", "fd00:ec2::254", "fd00:ec2:1::1",
         "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd20:ce::254", "fe80::a9fe:a9fe", "169.254.1.2", "fe80::1%eth0"]  # fmt: skip


def wrapped(address: str) -> list[str]:
    """Every IPv6 address that stands for an IPv4 address, and what comes out of it where somebody unpacks it."""
    v4 = int(ip_address(address))
    high, low = v4 >> 16, v4 & 0xFFFF
    return [
        f"::ffff:{address}", f"::{address}", f"::ffff:0:{high:x}:{low:x}", f"64:ff9b::{high:x}:{low:x}",
        f"64:ff9b:1::{high:x}:{low:x}", str(IPv6Address(0x0064FF9B0001 << 80 | high << 64 | low << 40)),
        str(IPv6Address(0x0064FF9B0001 << 80 | (v4 >> 24) << 64 | (v4 & 0xFFFFFF) << 32)),
        str(IPv6Address(0x0064FF9B0001 << 80 | v4 << 24)),
        f"2002:{high:x}:{low:x}::1", f"2001:0:{high:x}:{low:x}::1", f"2001::8000:0:{high ^ 0xFFFF:x}:{low ^ 0xFFFF:x}",
        f"2606:2800:21f::5efe:{high:x}:{low:x}", f"2606:2800:21f::200:5efe:{high:x}:{low:x}",
    ]  # fmt: skip


@pytest.mark.parametrize("never", NEVER)
async def test_no_name_and_no_wide_network_opens_credentials(never: str) -> None:
    """Whoever controls the name's DNS would get the machine's credentials; only the address itself is meant by itself."""
    wide = AddressPolicy.allowing(["api.internal", "0.0.0.0/0", "::/0"], private=True)
    forms = [never] + (wrapped(never) if "." in never and "%" not in never else [])
    for form in forms:
        assert wide.objection("api.internal", form), form
        assert wide.objection("x", form), form
        assert AddressPolicy().objection("shop.example", form), form
    itself = AddressPolicy.allowing([never.partition("%")[0]])
    assert itself.objection("x", never) is None


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "192.168.0.1", "100.64.0.1", "0.0.0.0"])
async def test_no_embedding_hides_an_address(address: str) -> None:
    """Mapped, translated, compatible, NAT64, 6to4, Teredo, ISATAP: judged as what is inside."""
    for form in wrapped(address)[:-2]:
        assert AddressPolicy().objection("shop.example", form), form


@pytest.mark.parametrize("name", ["metadata.google.internal", "METADATA.google.internal.", "metadata", "instance-data"])
async def test_names_of_metadata_services_are_never_opened_by_name(name: str) -> None:
    """Whatever they resolve to: an entry for the address is needed."""
    assert AddressPolicy.allowing([name], private=True).objection(name, "10.0.0.1")
    assert AddressPolicy().objection(name, "93.184.215.14")
    assert AddressPolicy.allowing(["10.0.0.0/8"]).objection(name, "10.0.0.1") is None


@pytest.mark.parametrize(
    ("entry", "host"),
    [
        ("Api.Internal", "api.internal"),
        ("api.internal.", "api.internal"),
        ("api.internal", "API.internal."),
        ("straße.example", "xn--strae-oqa.example"),
        ("xn--strae-oqa.example", "xn--strae-oqa.example"),
        ("api_1.internal", "api_1.internal"),
        ("localhost", "localhost"),
    ],
)
async def test_an_allowed_name_is_known_in_every_spelling(entry: str, host: str) -> None:
    """Names are compared as addresses have them after parsing."""
    assert AddressPolicy.allowing([entry]).objection(host, "10.0.0.1") is None


async def test_an_allowed_name_is_connected_to() -> None:
    """The worker's setting takes names of hosts, and a request for such a name arrives."""
    settings = Settings.from_env({"SCRAPESAGA_ALLOW_ADDRESSES": "straße.example, 10.9.0.0/16"})
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def resolve(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    policy = policy_of(settings.text("ALLOW_ADDRESSES"), [])
    async with server:
        stream = await GuardedBackend(policy, resolve).connect_tcp(Url.of("http://straße.example/").host, port, 5.0)
        await stream.aclose()
        with pytest.raises(StepFailed, match="loopback"):
            await GuardedBackend(policy, resolve).connect_tcp("other.example", port, 5.0)


@pytest.mark.parametrize("entry", ["a/b", "a?b", "a#b", "*.internal", "a@b", "-", "a b", "http://x", "x:80"])
async def test_what_is_no_host_name_is_refused(entry: str) -> None:
    """An entry is taken for what it says, or not at all."""
    with pytest.raises(BadAllowList, match="write for example"):
        AddressPolicy.allowing([entry])


@pytest.mark.parametrize("entry", ["10.0.0.0/33", "10.1.2.3/8", "300.1.1.1", "a b", "http://x", "::zz"])
async def test_unreadable_allow_list_is_refused(entry: str) -> None:
    """An entry that can't be understood is an error that says so, never a hole."""
    with pytest.raises(BadAllowList, match="write for example"):
        AddressPolicy.allowing([entry])


@pytest.mark.parametrize(
    "host",
    ["127.1", "0x7f.0.0.1", "2130706433", "0177.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "127。0。0。1"],
)
async def test_odd_notations_reach_no_socket(host: str) -> None:
    """Every way to write loopback is refused before a connection is made, whoever resolves it."""
    connections = 0

    async def count(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.close()

    server = await asyncio.start_server(count, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, open_client(AddressPolicy()) as client:
        with pytest.raises((StepFailed, httpx.ConnectError, httpx.InvalidURL)) as caught:
            await client.get(f"http://{host}:{port}/")
    assert connections == 0
    if host in ("127.1", "0x7f.0.0.1", "2130706433", "localhost"):
        assert "SCRAPESAGA_ALLOW_ADDRESSES" in str(caught.value)


async def test_a_name_is_resolved_once_for_each_connection() -> None:
    """A name that resolves to a forbidden address the second time gets no second look-up, and no connection."""
    answers = iter([["127.0.0.1"], ["127.0.0.2"]])
    asked = 0
    seen: list[str] = []

    async def rebind(_host: str, _port: int) -> list[str]:
        nonlocal asked
        asked += 1
        return next(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        seen.append(writer.get_extra_info("sockname")[0])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "0.0.0.0", 0)
    port = server.sockets[0].getsockname()[1]
    policy = AddressPolicy.allowing(["127.0.0.1"])
    async with server, open_client(policy, resolve=rebind) as client:
        assert (await client.get(f"http://shop.example:{port}/")).text == "ok"
        assert asked == 1
        with pytest.raises(StepFailed, match=r"127\.0\.0\.2"):
            await client.get(f"http://shop.example:{port}/")
    assert seen == ["127.0.0.1"]


async def test_of_several_addresses_only_allowed_ones_are_tried() -> None:
    """A name with a forbidden and an allowed address is served by the allowed one; a dead one is passed over."""
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def resolve(_host: str, _port: int) -> list[str]:
        return ["10.0.0.1", "127.0.0.9", "127.0.0.1"]

    async with server:
        stream = await GuardedBackend(AddressPolicy.allowing(["127.0.0.0/8"]), resolve).connect_tcp("x", port, 5.0)
        assert stream.get_extra_info("server_addr") == ("127.0.0.1", port)
        await stream.aclose()


async def test_a_slow_or_failing_resolver_is_a_connection_error() -> None:
    """No address is no verdict on the URL: it is an error that is tried again."""

    async def never(_host: str, _port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    async def fails(_host: str, _port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(httpcore.ConnectTimeout):
        await GuardedBackend(AddressPolicy(), never).connect_tcp("x", 80, 0.01)
    with pytest.raises(httpcore.ConnectError, match="does not resolve"):
        await GuardedBackend(AddressPolicy(), fails).connect_tcp("x", 80, 1.0)


async def test_the_client_keeps_no_cookies() -> None:
    """What one job's site sets is not sent with another job's request."""
    cookies: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        cookies.extend(line for line in head.splitlines() if line.startswith("cookie"))
        writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: s=1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, open_client(AddressPolicy.allowing(["127.0.0.1"])) as client:
        for _ in range(2):
            await client.get(f"http://127.0.0.1:{port}/")
    assert cookies == []
