"""Requests to addresses that strangers name: only to public hosts, without a second chance.

The name is resolved once, every address it has must be public, and the connection goes to the
address that was checked, so that a name cannot point elsewhere a moment later (DNS rebinding).
No redirect is followed, no proxy of the environment is used, and no more than ``limit`` is read.
"""

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings

from moderation.errors import Invalid

CONNECT_SECONDS = 5
# For each read; ``_cut_at`` bounds the whole, whatever a slow sender does.
READ_SECONDS = 10
DEFAULT_PORTS = {"http": 80, "https": 443}
# What carries an address of a private network, or is one, and is public to Python's ipaddress all
# the same: local-use NAT64 (RFC 8215), site-local and IPv4-compatible addresses (RFC 4291).
INWARD = tuple(map(ipaddress.ip_network, ("64:ff9b:1::/48", "fec0::/10", "::/96")))
PORTS = frozenset({80, 443, 8000, 8080, 8443})


class OutboundError(Exception):
    """The other side could not be asked, or did not answer as it should."""


@dataclass(frozen=True)
class Target:
    """An address that was taken apart and may be asked."""

    scheme: str
    host: str
    port: int
    path: str


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    stream: http.client.HTTPResponse
    deadline: float

    def chunks(self, *, limit: int, size: int = 1024 * 1024) -> Iterator[bytes]:
        """Yield the body; raises OutboundError beyond ``limit`` bytes or the deadline."""
        total = 0
        try:
            while chunk := self.stream.read1(size):
                total += len(chunk)
                if total > limit:
                    raise OutboundError(f"The answer is longer than {limit:,} bytes.")
                if time.monotonic() > self.deadline:
                    break
                yield chunk
        except (OSError, http.client.HTTPException) as error:
            raise OutboundError(f"The answer broke off ({type(error).__name__}).") from error
        if time.monotonic() > self.deadline:
            raise OutboundError("The answer took too long.")


def target_of(url: str, *, field: str = "url") -> Target:
    """Take an address apart.

    Raises Invalid unless it is http(s), has a host, no user and no password, a usual port, and is
    https outside of the hosts that the operator trusts (``OUTBOUND_PRIVATE_HOSTS``).
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise Invalid("This is no address.", code="bad_url", field=field) from error
    if parts.scheme not in {"http", "https"} or not host or not url.isascii() or " " in url:
        raise Invalid("Give an address that begins with https://.", code="bad_url", field=field)
    if parts.username or parts.password:
        raise Invalid("An address with a password in it is refused.", code="bad_url", field=field)
    trusted = host in settings.OUTBOUND_PRIVATE_HOSTS
    if parts.scheme != "https" and not trusted:
        raise Invalid("The address should begin with https://.", code="bad_url", field=field)
    port = port or DEFAULT_PORTS[parts.scheme]
    if port not in PORTS and not trusted:
        raise Invalid(f"Port {port} is not one for web pages.", code="bad_url", field=field)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port, path)


def address_of(target: Target) -> str:
    """Resolve a host to one address; raises OutboundError if any of its addresses is private."""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise OutboundError(f"The host {target.host} is not known.") from error
    addresses = [str(entry[4][0]) for entry in found]
    if target.host not in settings.OUTBOUND_PRIVATE_HOSTS:
        for address in addresses:
            if not _is_public(address):
                raise OutboundError(f"The host {target.host} is not a public one.")
    return addresses[0]


def _is_public(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        # Addresses that carry another one within: each is as public as that one.
        inner = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo or (None, None))[1]
        if inner is not None:
            return _is_public(str(inner))
        if any(parsed in network for network in INWARD):
            return False
        if parsed in ipaddress.ip_network("64:ff9b::/96"):  # NAT64, RFC 6052
            return _is_public(str(ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)))
    return parsed.is_global and not parsed.is_multicast


@contextmanager
def ask(
    url: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    seconds: float = 10,
) -> Iterator[Answer]:
    """Ask an address; yields the answer while the connection is open.

    Raises Invalid for an address that may not be asked, OutboundError if nobody answers in
    ``seconds``.
    """
    target = target_of(url)
    deadline = time.monotonic() + seconds
    address = address_of(target)
    connection = http.client.HTTPConnection(target.host, target.port, timeout=READ_SECONDS)
    # The port stands in Host only where it is not the scheme's own; signed addresses of buckets
    # hold for the name without it.
    connection.default_port = DEFAULT_PORTS[target.scheme]
    try:
        raw = socket.create_connection((address, target.port), timeout=CONNECT_SECONDS)
    except OSError as error:
        raise OutboundError(f"{target.host} did not answer ({type(error).__name__}).") from error
    with _cut_at(raw, deadline):
        try:
            connection.sock = raw
            raw.settimeout(min(READ_SECONDS, seconds))
            if target.scheme == "https":
                raw = ssl.create_default_context().wrap_socket(raw, server_hostname=target.host)
                connection.sock = raw
            connection.request(method, target.path, body=body, headers=dict(headers or {}))
            answer = connection.getresponse()
            if time.monotonic() > deadline:
                # What was cut off in the middle of its headers looks like an answer.
                raise TimeoutError
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            said = f"{target.host} did not answer ({type(error).__name__})."
            raise OutboundError(said) from error
        try:
            yield Answer(answer.status, answer, deadline)
        finally:
            connection.close()


@contextmanager
def _cut_at(connected: socket.socket, deadline: float) -> Iterator[None]:
    """End a connection when its time is over, also for whoever sends a byte now and then.

    Such a sender keeps within every limit for a single read.
    """
    # TLS takes the socket itself away; both are the same connection.
    same = connected.dup()

    def cut() -> None:
        with suppress(OSError):
            same.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0, deadline - time.monotonic()), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        same.close()
