"""The way out: which hosts may be reached, how much is read, and what happens when it fails."""

import asyncio
import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from csms.core.errors import ProviderError
from csms.providers.fetch import (
    Access,
    Fetcher,
    RateLimited,
    checked_target,
    is_public,
    parsed_json,
)
from tests.providers.conftest import SAMPLES, Answer, SampleServer

LOCAL = Access(allow_http=True)
RATE_LIMITED = SAMPLES / "forecast-solar" / "rate-limited.json"


async def get(url: str, fetcher: Fetcher | None = None, access: Access = LOCAL) -> object | None:
    return await (fetcher or Fetcher()).json(url, provider="test", access=access)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "172.31.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
     "0.0.0.0", "192.0.0.8", "198.18.0.1", "224.0.0.1", "255.255.255.255", "::", "::1",
     "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1",
     "2002:7f00:1::", "2001::1", "2001:db8::1", "fe80::1", "fec0::1", "fd00::1", "5f00::1",
     "ff02::1", "100::1"],
)  # fmt: skip
def test_special_addresses_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "193.0.14.129", "2606:4700::1111", "::ffff:8.8.8.8", "2a00:1450::1"]
)
def test_ordinary_addresses_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://127.0.0.1/", "no public address"),
        ("https://localhost/", "no public address"),
        ("https://2130706433/", "no public address"),
        ("https://[::1]/", "no public address"),
        ("https://[::ffff:10.0.0.1]/", "no public address"),
        ("https://169.254.169.254/latest", "no public address"),
        ("https://8.8.8.8:8443/", "port 8443"),
        ("https://8.8.8.8:22/", "port 22"),
        ("http://8.8.8.8/", "must be https"),
        ("https://user:secret@8.8.8.8/", "user name"),
        ("ftp://8.8.8.8/", "https://"),
        ("file:///etc/passwd", "https://"),
        ("prices", "https://"),
        ("https://", "https://"),
        ("https://8.8.8.8:port/", "url is"),
    ],
)
async def test_a_forbidden_address_is_refused_before_connecting(url: str, says: str) -> None:
    with pytest.raises(ProviderError, match=says):
        await checked_target(url, provider="test", access=Access())


async def test_plain_http_reaches_loopback_only_and_only_where_allowed(
    server: SampleServer,
) -> None:
    with pytest.raises(ProviderError, match="must be https"):
        await get(server.says("x", {}), access=Access(allow_private=True))
    with pytest.raises(ProviderError, match="must be https"):
        await checked_target("http://8.8.8.8/", provider="test", access=LOCAL)
    assert server.requests == []
    assert await get(server.url("x")) == {}


async def test_private_addresses_are_reached_where_configured() -> None:
    target = await checked_target(
        "https://10.1.2.3:8443/x",
        provider="test",
        access=Access(allow_private=True, ports=(443, 8443)),
    )
    assert (target.host, target.addresses, target.port) == ("10.1.2.3", ("10.1.2.3",), 8443)


async def test_the_request_carries_nothing_from_the_environment(
    server: SampleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    fetcher = Fetcher()
    url = server.says("x", {"a": 1}, Set_Cookie="sid=1")
    assert await get(url, fetcher) == await get(url, fetcher) == {"a": 1}
    _, headers, _ = server.requests[1]
    assert "cookie" not in headers
    assert headers["host"] == f"127.0.0.1:{server.port}"
    assert headers["accept-encoding"] == "identity"


async def test_no_content_means_not_yet(server: SampleServer) -> None:
    assert await get(server.says("x", b"", status=204)) is None


async def test_one_redirect_is_followed_and_checked(server: SampleServer) -> None:
    server.says("there", {"a": 1})
    assert await get(server.says("x", b"", status=302, Location="/there")) == {"a": 1}
    server.says("twice", b"", status=302, Location="/x")
    with pytest.raises(ProviderError, match="answered 302"):
        await get(server.url("twice"))
    for inner in ("https://169.254.169.254/", "http://8.8.8.8/", "file:///etc/passwd"):
        with pytest.raises(ProviderError):
            await get(server.says("out", b"", status=302, Location=inner))


async def test_a_secret_stays_with_its_host(server: SampleServer) -> None:
    server.says("there", {})
    onward = f"http://localhost:{server.port}/there"
    for location, is_kept in (("/there", True), (onward, False)):
        url = server.says("x", b"", status=307, Location=location)
        await Fetcher().json(
            url, provider="test", access=LOCAL, headers={"Authorization": "Bearer s"}
        )
        assert ("authorization" in server.requests[-1][1]) is is_kept


@pytest.mark.parametrize(
    ("body", "headers", "says"),
    [
        (b"[" + b" " * 1_000_000 + b"]", {}, "larger"),
        (b"\x1f\x8b", {"Content-Encoding": "gzip"}, "compressed"),
        (b"<html>", {}, "no JSON"),
        (b"\xff", {}, "no JSON"),
        (b'{"a": NaN}', {}, "no JSON"),
        (b"[" * 33 + b"]" * 33, {}, "deeper than 32"),
        (b"[" * 100_000, {}, "no JSON"),
    ],
)
async def test_an_answer_that_is_too_much_or_no_json_is_refused(
    server: SampleServer, body: bytes, headers: dict[str, str], says: str
) -> None:
    server.answers["/x"] = Answer(body=body, headers=headers)
    with pytest.raises(ProviderError, match=says):
        await get(server.url("x"))


def test_32_levels_are_read() -> None:
    assert parsed_json(b"[" * 32 + b"]" * 32, provider="test")


def server_tls(name: str, folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's context with a certificate for `name`, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{name}.pem"
    pem = certificate.public_bytes(Encoding.PEM)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(pem + secret)
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(file)
    return serving, ssl.create_default_context(cadata=pem.decode())


@pytest.mark.parametrize(("name", "is_right"), [("localhost", True), ("other.example", False)])
async def test_the_certificate_is_checked_for_the_name_though_the_address_is_pinned(
    server: SampleServer, tmp_path: Path, name: str, is_right: bool
) -> None:
    serving, trusting = server_tls(name, tmp_path)
    server.says("x", {"a": 1})
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=serving) as listening:
        url = f"https://localhost:{listening.sockets[0].getsockname()[1]}/x"
        if is_right:
            assert await get(url, Fetcher(tls=trusting)) == {"a": 1}
            assert server.requests[0][1]["host"].startswith("localhost:")
        else:
            with pytest.raises(ProviderError, match="certificate"):
                await get(url, Fetcher(tls=trusting))
            assert server.requests == []
        with pytest.raises(ProviderError, match="certificate"):
            await get(url)


@pytest.mark.parametrize("status", [400, 401, 404, 500, 503])
async def test_an_error_status_is_named(server: SampleServer, status: int) -> None:
    with pytest.raises(ProviderError, match=f"test: 127.0.0.1 answered {status}"):
        await get(server.says("x", {}, status=status))


async def test_a_provider_that_wants_rest_gets_it(server: SampleServer) -> None:
    now_s = [0.0]
    fetcher = Fetcher(monotonic=lambda: now_s[0])
    url = server.says("x", {}, status=429, Retry_After="120")
    with pytest.raises(RateLimited) as refused:
        await get(url, fetcher)
    wait = refused.value.retry_at - datetime.now(UTC)
    assert timedelta(seconds=100) < wait <= timedelta(seconds=120)
    server.says("x", {})
    now_s[0] = 110.0
    with pytest.raises(ProviderError, match="left alone"):
        await get(url, fetcher)
    assert len(server.requests) == 1
    now_s[0] = 121.0
    assert await get(url, fetcher) == {}


async def test_the_moment_to_retry_is_read_from_header_or_body(server: SampleServer) -> None:
    with pytest.raises(RateLimited) as dated:
        await get(server.says("x", {}, status=429, Retry_After="Fri, 31 Dec 2032 23:59:59 GMT"))
    assert dated.value.retry_at == datetime(2032, 12, 31, 23, 59, 59, tzinfo=UTC)
    body = RATE_LIMITED.read_bytes().replace(b"2024", b"2034")
    with pytest.raises(RateLimited) as stated:
        await get(server.says("x", body, status=429))
    assert stated.value.retry_at == datetime(2034, 4, 27, 0, 48, 53, tzinfo=UTC)
    with pytest.raises(RateLimited) as silent:
        await get(server.says("x", b"", status=429))
    assert silent.value.retry_at > datetime.now(UTC) + timedelta(minutes=59)


async def test_five_failures_in_a_row_make_a_host_rest_for_a_growing_time(
    server: SampleServer,
) -> None:
    now_s = [0.0]
    fetcher = Fetcher(monotonic=lambda: now_s[0])
    url = server.says("x", {}, status=500)
    for _ in range(5):
        with pytest.raises(ProviderError, match="500"):
            await get(url, fetcher)
    with pytest.raises(ProviderError, match="left alone for 60 s"):
        await get(url, fetcher)
    assert len(server.requests) == 5
    now_s[0] = 61.0
    with pytest.raises(ProviderError, match="500"):
        await get(url, fetcher)
    with pytest.raises(ProviderError, match="left alone for 120 s"):
        await get(url, fetcher)
    server.says("x", {})
    now_s[0] = 200.0
    assert await get(url, fetcher) == {}
    server.says("x", {}, status=500)
    with pytest.raises(ProviderError, match="500"):
        await get(url, fetcher)


async def test_a_source_that_hangs_costs_its_own_slots_and_no_more(
    server: SampleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("csms.providers.fetch.WHOLE_S", 0.3)
    server.answers["/slow"] = Answer(hangs=True)
    fetcher = Fetcher()
    results = await asyncio.gather(
        *(get(server.url("slow"), fetcher) for _ in range(4)), return_exceptions=True
    )
    assert all(isinstance(result, ProviderError) for result in results)
    assert "no answer from 127.0.0.1" in str(results[0])


async def test_at_most_four_calls_per_host_run_at_once(server: SampleServer) -> None:
    server.answers["/slow"] = Answer(body=b"{}", hangs=True)
    fetcher = Fetcher()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(get(server.url("slow"), fetcher))
        await server.four_wait.wait()
        server.release.set()
    assert len(server.requests) == 8
    assert server.open_most == 4


async def test_a_host_that_is_not_there_is_named(unused_tcp_port: int) -> None:
    with pytest.raises(ProviderError, match=r"127\.0\.0\.1 cannot be reached"):
        await get(f"http://127.0.0.1:{unused_tcp_port}/")
