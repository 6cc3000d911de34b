"""Requests to addresses that strangers name reach public hosts only, and are not led astray."""

import socket
import ssl
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from moderation.errors import Invalid
from moderation.outbound import OutboundError, address_of, ask, target_of
from tests.receiver import receiver

INWARD = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "0.0.0.0",  # noqa: S104
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "224.0.0.1",
    "localhost",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:10.0.0.1]",
    "[fd00::1]",
    "[fe80::1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[64:ff9b:1::a00:1]",
    "[fec0::1]",
    "[::10.0.0.1]",
]


@pytest.mark.parametrize("host", INWARD)
def test_no_spelling_of_an_inward_address_is_asked(host: str) -> None:
    with pytest.raises(OutboundError, match=r"not a public one|not known"):
        address_of(target_of(f"https://{host}/"))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "ftp://example.org/",
        "gopher://example.org/",
        "file:///etc/passwd",
        "https://user:secret@example.org/",
        "https://example.org:22/",
        "https://example.org:6379/",
        "https://example.org:99999/",
        "https:///nowhere",
        "https://exa mple.org/",
        "javascript:alert(1)",
        "",
    ],
)
def test_only_plain_web_addresses_are_taken(url: str) -> None:
    with pytest.raises(Invalid):
        target_of(url)


def test_a_name_with_one_inward_address_among_public_ones_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def both(*_: Any, **__: Any) -> list[Any]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, ("93.184.215.14", 443)), (*kind, ("127.0.0.1", 443))]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with pytest.raises(OutboundError, match="not a public one"):
        address_of(target_of("https://rebinding.example.org/"))


def test_the_connection_goes_to_the_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """A name that points elsewhere a moment later is not looked up again."""
    settings.OUTBOUND_PRIVATE_HOSTS = ["files.internal"]
    looked_up = []
    real = socket.getaddrinfo

    def counting(host: str, *args: Any, **kwargs: Any) -> Any:
        if host == "files.internal":
            looked_up.append(host)
            host = "127.0.0.1"
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", counting)
    with receiver() as server:
        server.files["/a"] = b"content"
        port = server.url.rsplit(":", 1)[1]
        with ask(f"http://files.internal:{port}/a") as answer:
            assert b"".join(answer.chunks(limit=100)) == b"content"
    assert looked_up == ["files.internal"]


def _certified(folder: Path, host: str) -> Path:
    """Write a certificate of a host that signed itself, with its key; return the file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    plain = serialization.NoEncryption()
    private = serialization.PrivateFormat.TraditionalOpenSSL
    file.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, private, plain)
    )
    return file


@pytest.mark.parametrize(("port", "name"), [("", ""), (":443", ""), (":8443", ":8443")])
def test_a_port_is_named_only_where_it_is_not_the_scheme_s_own(
    port: str, name: str, monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path
) -> None:
    """Signed addresses of buckets, and the hosts of many servers, hold without it."""
    settings.OUTBOUND_PRIVATE_HOSTS = ["files.internal"]
    certificate = _certified(tmp_path, "files.internal")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    real = socket.getaddrinfo
    connect = socket.create_connection
    with receiver(tls=context) as server:
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda host, *rest, **more: real("127.0.0.1", *rest, **more)
        )
        at = int(server.url.rsplit(":", 1)[1])
        monkeypatch.setattr(
            socket, "create_connection", lambda _, **more: connect(("127.0.0.1", at), **more)
        )
        with ask(f"https://files.internal{port}/a", method="POST", body=b"x") as answer:
            assert answer.status == 200
    assert server.received[0][0]["host"] == f"files.internal{name}"


def test_a_redirect_is_not_followed(settings: Any) -> None:
    settings.OUTBOUND_PRIVATE_HOSTS = ["127.0.0.1"]
    with receiver() as server:
        server.status, server.location = 302, "http://127.0.0.1:1/secret"
        with ask(f"{server.url}/a") as answer:
            assert answer.status == 302
        assert len(server.received) == 1


BEGINNING = b"HTTP/1.1 200 OK\r\n"
HEADERS = BEGINNING + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("before", [b"", BEGINNING + b"X-Long: ", HEADERS], ids=str)
def test_who_sends_a_byte_now_and_then_holds_nobody_for_longer_than_was_given(
    before: bytes, settings: Any
) -> None:
    settings.OUTBOUND_PRIVATE_HOSTS = ["127.0.0.1"]
    ended = threading.Event()

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            connection.recv(10_000)
            connection.sendall(before)
            # Long enough to see that nobody waited for it.
            while not ended.wait(0.05):
                connection.sendall(b"0")

    with socket.create_server(("127.0.0.1", 0)) as server:
        dripping = threading.Thread(target=drip, args=[server], daemon=True)
        dripping.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/a"
        # Else it would end only at 64 KB of one line, and the test with it.
        give_up = threading.Timer(30, ended.set)
        give_up.start()
        try:
            with pytest.raises(OutboundError), ask(url, seconds=0.5) as answer:
                list(answer.chunks(limit=10**6))
            assert not ended.is_set()
        finally:
            give_up.cancel()
            ended.set()


def test_an_answer_that_does_not_end_is_cut_off(settings: Any) -> None:
    settings.OUTBOUND_PRIVATE_HOSTS = ["127.0.0.1"]
    with receiver() as server:
        server.files["/long"] = b"x" * 5000
        with (
            ask(f"{server.url}/long") as answer,
            pytest.raises(OutboundError, match="longer than 1,000 bytes"),
        ):
            list(answer.chunks(limit=1000))
