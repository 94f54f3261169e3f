"""Which addresses a step may connect to: public ones, and those that the operator allowed.

The judgement is about the address that is connected to, after the name was resolved: notations such as 127.1,
0x7f.0.0.1 or 2130706433, redirects, and names that resolve to something else the second time can't get past it.
Ranges: the IANA special-purpose registries for IPv4 and IPv6, spelt out here because `ipaddress.is_global` differs
between patch releases of Python.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from processors.errors import ConfigurationError
from processors.http.url import BadUrl, Url

Ip = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network

_PRIVATE = {
    ip_network(network): "a private address"
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
}
#: Public or private by number, but never anything that a scraper wants: credentials of the machine are served there.
_METADATA = {
    ip_network(network): reason
    for network, reason in (
        ("168.63.129.16/32", "a cloud metadata service (Azure)"),
        ("169.254.169.254/32", "a cloud metadata service"),
        ("169.254.170.2/32", "a service of credentials (ECS)"),
        ("169.254.170.23/32", "a service of credentials (EKS)"),
        ("100.100.100.200/32", "a cloud metadata service (Alibaba)"),
        ("192.0.0.192/32", "a cloud metadata service (Oracle)"),
        ("fd00:ec2::/32", "a cloud metadata service (AWS)"),
        ("fd20:ce::254/128", "a cloud metadata service (Google)"),
        ("fe80::a9fe:a9fe/128", "a cloud metadata service (OpenStack)"),
    )
}
#: Names that lead there in some network, whatever they resolve to here.
_METADATA_NAMES = frozenset(
    {"metadata", "metadata.google.internal", "metadata.goog", "metadata.azure.internal", "metadata.tencentyun.com"}
    | {"instance-data", "instance-data.ec2.internal", "metadata.platformequinix.com"}
)
#: What serves only neighbours: more clouds keep their credentials here than the list above knows.
_LINK_LOCAL = {ip_network(network): "link-local" for network in ("169.254.0.0/16", "fe80::/10")}
_SPECIAL = {
    ip_network(network): reason
    for network, reason in (
        ("0.0.0.0/8", "this host"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "documentation only"),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("198.18.0.0/15", "benchmarking only"),
        ("198.51.100.0/24", "documentation only"),
        ("203.0.113.0/24", "documentation only"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "this host"),
        ("::1/128", "loopback"),
        ("64:ff9b:1::/48", "NAT64 of a local network"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
        ("2001::/23", "a tunnel or reserved (Teredo, ORCHID)"),
        ("2001:db8::/32", "documentation only"),
        ("2002::/16", "a 6to4 tunnel"),
        ("3fff::/20", "documentation only"),
    )
}
_GLOBAL_UNICAST = ip_network("2000::/3")


def policy_of(worker: str, entries: Iterable[str], *, private: bool = False) -> AddressPolicy:
    """Return the policy of a step: what the worker's SCRAPESAGA_ALLOW_ADDRESSES says, and its own entries.

    Raises ConfigurationError for the former, BadAllowList for the latter.
    """
    allowed = worker.split(",")
    try:
        AddressPolicy.allowing(allowed)
    except BadAllowList as error:
        raise ConfigurationError(f"SCRAPESAGA_ALLOW_ADDRESSES: {error}") from error
    return AddressPolicy.allowing([*allowed, *entries], private=private)


class BadAllowList(ValueError):
    """An entry of an allow-list is no address, no network and no host name."""


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """What may be connected to: public addresses, `networks`, what `hosts` resolve to; RFC 1918 if `private`.

    Link-local addresses, metadata and credential services are reached only through an entry of `networks` that lies within
    them: a name may be made to resolve there, and a wide network is meant for what is beside them.
    """

    networks: tuple[IpNetwork, ...] = ()
    hosts: frozenset[str] = frozenset()
    private: bool = False

    @classmethod
    def allowing(cls, entries: Iterable[str], *, private: bool = False) -> AddressPolicy:
        """Read an allow-list of addresses, CIDR networks and host names. Raises BadAllowList."""
        networks: list[IpNetwork] = []
        hosts: set[str] = set()
        for entry in filter(None, (entry.strip() for entry in entries)):
            try:
                networks.append(ip_network(entry.strip("[]")))
                continue
            except ValueError as error:
                if "/" in entry or ":" in entry or entry.replace(".", "").isdigit():
                    raise BadAllowList(
                        f"{entry!r} is no address or network ({error}): write for example 10.1.0.0/16"
                    ) from None
            hosts.add(_host_name(entry))
        return cls(networks=tuple(networks), hosts=frozenset(hosts), private=private)

    def objection(self, host: str, address: str) -> str | None:
        """Say why `host`, resolved to `address`, may not be connected to; None if it may."""
        try:
            ip = ip_address(address.partition("%")[0])
        except ValueError:
            return "not an IP address"
        name = host.lower().rstrip(".")
        forms = (ip, *embedded(ip))
        for form in forms:
            # As close as that the entry means it.
            reason = _named(form, _METADATA) or _named(form, _LINK_LOCAL)
            if reason is not None and not self._means(form):
                return reason
        if name in _METADATA_NAMES and not any(form in network for form in forms for network in self.networks):
            return "a cloud metadata service"
        return self._judged(forms, named=name in self.hosts)

    def _means(self, ip: Ip) -> bool:
        """Whether an entry of `networks` lies within the narrowest range of its kind that an address is in."""
        ranges = [network for network in _METADATA if ip in network] or [
            network for network in _LINK_LOCAL if ip in network
        ]
        return any(
            # The two have the same version; the stubs want to see it in the types.
            ip in network and any(network.version == one.version and network.subnet_of(one) for one in ranges)  # type: ignore[arg-type]
            for network in self.networks
        )

    def _judged(self, forms: tuple[Ip, ...], *, named: bool) -> str | None:
        ip = forms[0]
        if isinstance(ip, IPv6Address) and any(ip in prefix for prefix in _AS_GOOD_AS_IPV4):
            # A gateway, or the system itself, turns it into that address.
            ip = forms[1]
        if any(ip in network or forms[0] in network for network in self.networks):
            return None
        if named:
            return None
        reason = _named(ip, _PRIVATE)
        if reason is not None:
            return None if self.private else reason
        reason = _named(ip, _SPECIAL)
        if reason is None and isinstance(ip, IPv6Address) and ip not in _GLOBAL_UNICAST:
            return "outside the public IPv6 range"
        return reason


_MAPPED = ip_network("::ffff:0:0/96")
#: Behind a NAT64 gateway every IPv4 host has such an address.
_NAT64 = ip_network("64:ff9b::/96")
_LOCAL_NAT64 = ip_network("64:ff9b:1::/48")
_AS_GOOD_AS_IPV4 = (_MAPPED, _NAT64)
# IPv4 in the last 32 bits: mapped, translated (SIIT), compatible, NAT64 (RFC 4291, 2765, 6052).
_IN_THE_END = tuple(map(ip_network, ("::ffff:0:0/96", "::ffff:0:0:0/96", "::/96", "64:ff9b::/96", "64:ff9b:1::/48")))
_SIX_TO_FOUR = ip_network("2002::/16")
_TEREDO = ip_network("2001::/32")
#: What stands in front of the IPv4 address in the lower half of an ISATAP address (RFC 5214), whatever the upper is.
_ISATAP = (0x00005EFE, 0x02005EFE)


def embedded(ip: Ip) -> tuple[IPv4Address, ...]:
    """Return the IPv4 addresses that an IPv6 address may stand for, to whoever translates or unpacks it."""
    if isinstance(ip, IPv4Address):
        return ()
    number, found = int(ip), []
    if any(ip in prefix for prefix in _IN_THE_END):
        found.append(number)
    if ip in _LOCAL_NAT64:
        # Prefixes of 48, 56 and 64 bits leave out the bits 64 to 71 (RFC 6052, 2.2).
        found += [
            (number >> 64 & (1 << bits) - 1) << 32 - bits | number >> 24 + bits & (1 << 32 - bits) - 1
            for bits in (16, 8, 0)
        ]
    if ip in _SIX_TO_FOUR:
        found.append(number >> 80)
    if ip in _TEREDO:
        # The relay's server, and the client with its bits turned over.
        found += [number >> 64, number ^ 0xFFFFFFFF]
    if number >> 32 & 0xFFFFFFFF in _ISATAP:
        found.append(number)
    return tuple(IPv4Address(one & 0xFFFFFFFF) for one in found)


def _host_name(entry: str) -> str:
    """Return a host name as addresses have it after parsing: small, ASCII, without the dot at the end."""
    try:
        url = Url.of(f"http://{entry}/")
    except BadUrl as error:
        raise BadAllowList(f"{entry!r} is not a host name: write for example api.internal or 10.1.0.0/16") from error
    name = url.host.rstrip(".")
    if url.href != f"http://{url.host}/" or not all(
        part.replace("-", "").replace("_", "").isalnum() for part in name.split(".")
    ):
        raise BadAllowList(f"{entry!r} is not a host name: write for example api.internal or 10.1.0.0/16")
    return name


def _named(ip: Ip, ranges: dict[IpNetwork, str]) -> str | None:
    return next((reason for network, reason in ranges.items() if ip in network), None)
