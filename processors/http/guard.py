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

Ip = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network

_PRIVATE = {
    ip_network(network): "a private address"
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
}
#: Public or private by number, but never anything that a scraper wants: credentials of the machine are served there.
_METADATA = {
    ip_network(network): "a cloud metadata service"
    for network in (
        "168.63.129.16/32",
        "169.254.169.254/32",
        "100.100.100.200/32",
        "192.0.0.192/32",
        "fd00:ec2::254/128",
        "fd20:ce::254/128",
    )
}
_SPECIAL = {
    ip_network(network): reason
    for network, reason in (
        ("0.0.0.0/8", "this host"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
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
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
        ("2001::/23", "a tunnel or reserved (Teredo, ORCHID)"),
        ("2001:db8::/32", "documentation only"),
        ("2002::/16", "a 6to4 tunnel"),
        ("3fff::/20", "documentation only"),
    )
}
_GLOBAL_UNICAST = ip_network("2000::/3")
#: Behind a NAT64 gateway every IPv4 host has such an address: it is as good as the IPv4 address in its last 32 bits.
_NAT64 = ip_network("64:ff9b::/96")


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

    A metadata service is reached only through an entry of `networks`: a name may be made to resolve to it.
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
            if not all(part.replace("-", "").replace("_", "").isalnum() for part in entry.split(".")):
                raise BadAllowList(f"{entry!r} is no host name: write for example api.internal or 10.1.0.0/16")
            hosts.add(entry.lower())
        return cls(networks=tuple(networks), hosts=frozenset(hosts), private=private)

    def objection(self, host: str, address: str) -> str | None:
        """Say why `host`, resolved to `address`, may not be connected to; None if it may."""
        try:
            ip = ip_address(address.partition("%")[0])
        except ValueError:
            return "not an IP address"
        return self._objection(ip, named=host.lower().rstrip(".") in self.hosts)

    def _objection(self, ip: Ip, *, named: bool) -> str | None:
        if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        if any(ip in network for network in self.networks):
            return None
        reason = _named(ip, _METADATA)
        if reason is not None:
            return reason
        if ip in _NAT64:
            return self._objection(IPv4Address(int(ip) & 0xFFFFFFFF), named=named)
        if named:
            return None
        reason = _named(ip, _PRIVATE)
        if reason is not None:
            return None if self.private else reason
        reason = _named(ip, _SPECIAL)
        if reason is None and isinstance(ip, IPv6Address) and ip not in _GLOBAL_UNICAST:
            return "outside the public IPv6 range"
        return reason


def _named(ip: Ip, ranges: dict[IpNetwork, str]) -> str | None:
    return next((reason for network, reason in ranges.items() if ip in network), None)
