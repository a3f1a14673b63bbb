"""The one way out to other hosts: guarded, bounded, without memory of its own.

The name is resolved once, every address is judged, and the connection goes to that very address,
so that a second look-up cannot differ. Nothing is taken from the environment: no proxy, no
cookies, no credentials.
"""

import asyncio
import ipaddress
import json
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar

import httpx

from csms.core.errors import ProviderError

MAX_BODY: Final = 1_000_000
MAX_DEPTH: Final = 32
CONNECT_S: Final = 3.0
WHOLE_S: Final = 10.0
PER_HOST: Final = 4
FAILURES_BEFORE_REST: Final = 5
REST_S: Final = 60.0
MAX_REST_S: Final = 3600.0

T = TypeVar("T")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# IANA special-purpose registries. `is_global` is not used: Python 3.11 calls NAT64 of loopback,
# 6to4, site-local and multicast addresses global.
_REFUSED_V4: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24",
        "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
_UNICAST_V6: Final = ipaddress.IPv6Network("2000::/3")
_REFUSED_V6: Final = tuple(
    ipaddress.ip_network(network)
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)


class RateLimited(ProviderError):
    """The provider asks to be left alone until `retry_at`."""

    def __init__(self, message: str, *, retry_at: datetime) -> None:
        super().__init__(message)
        self.retry_at = retry_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a provider's configuration permits beyond https to public addresses on port 443."""

    allow_http: bool = False
    """Plain http, to loopback only: for tests and development."""
    allow_private: bool = False
    allow_plain: bool = False
    """Plain http to public addresses: for answers that carry a signature of their own."""
    ports: tuple[int, ...] = (443,)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ask:
    """What goes out: `content` None is a GET."""

    headers: Mapping[str, str]
    content: bytes | None = None
    accept: str = "application/json"


@dataclass(slots=True)
class _Host:
    turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PER_HOST))
    failures: int = 0
    rests_until: float = 0.0


@dataclass(frozen=True, slots=True)
class _Target:
    url: httpx.URL
    host: str
    addresses: tuple[str, ...]
    port: int


def is_public(address: Address) -> bool:
    """Return whether `address` belongs to the public internet; mapped IPv4 counts as IPv4."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        return address in _UNICAST_V6 and not any(address in net for net in _REFUSED_V6)
    return not any(address in net for net in _REFUSED_V4)


def is_loopback(address: Address) -> bool:
    """Return whether `address` is this machine's loopback."""
    return address in ipaddress.ip_network("127.0.0.0/8") or address == ipaddress.ip_address("::1")


class Fetcher:
    """Fetches JSON, and posts. One per process, so that its limits per host hold for all."""

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`tls` None trusts the machine's certificate authorities."""
        self._hosts: dict[str, _Host] = {}
        self._monotonic = monotonic
        self._tls = tls

    async def json(
        self,
        url: str,
        *,
        provider: str,
        access: Access,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> object | None:
        """Return the JSON answer of `url`, None for 204 (nothing there yet).

        GET, or POST of `body`. Raises ProviderError (RateLimited for 429) for everything else;
        after five failures in a row the host rests, for a time that doubles with each further one.
        """
        content, given = None, dict(headers or {})
        if body is not None:
            content = json.dumps(body).encode()
            given["Content-Type"] = "application/json"
        ask = _Ask(headers=given, content=content)
        return await self._whole(
            url, provider, access, ask, lambda data: parsed_json(data, provider=provider)
        )

    async def posted(
        self,
        url: str,
        *,
        provider: str,
        access: Access,
        content: bytes,
        content_type: str,
        accept: str,
    ) -> bytes:
        """Return the answer to a POST of `content`, as it is; raises as `json` does."""
        ask = _Ask(headers={"Content-Type": content_type}, content=content, accept=accept)
        data = await self._whole(url, provider, access, ask, bytes)
        if data is None:
            raise ProviderError(f"{provider}: {_url(url, provider).host} has no answer")
        return data

    async def _whole(
        self, url: str, provider: str, access: Access, ask: _Ask, read: Callable[[bytes], T]
    ) -> T | None:
        host = _url(url, provider).host
        state = self._hosts.setdefault(host, _Host())
        left_s = state.rests_until - self._monotonic()
        if left_s > 0:
            raise ProviderError(f"{provider}: {host} is left alone for {left_s:.0f} s more")
        try:
            async with state.turn, asyncio.timeout(WHOLE_S):
                data = await self._get(url, provider, access, ask)
                answer = None if data is None else read(data)
        except RateLimited as error:
            wait_s = (error.retry_at - datetime.now(UTC)).total_seconds()
            state.rests_until = self._monotonic() + max(0.0, min(wait_s, 24 * MAX_REST_S))
            raise
        except TimeoutError:
            self._failed(state)
            raise ProviderError(f"{provider}: no answer from {host} in {WHOLE_S:.0f} s") from None
        except (httpx.HTTPError, OSError) as error:
            self._failed(state)
            raise ProviderError(
                f"{provider}: {host} cannot be reached: {type(error).__name__} {error}"
            ) from error
        except ProviderError:
            self._failed(state)
            raise
        state.failures = 0
        return answer

    def _failed(self, state: _Host) -> None:
        state.failures += 1
        beyond = state.failures - FAILURES_BEFORE_REST
        if beyond >= 0:
            state.rests_until = self._monotonic() + min(REST_S * 2 ** min(beyond, 10), MAX_REST_S)

    async def _get(self, url: str, provider: str, access: Access, ask: _Ask) -> bytes | None:
        target = await checked_target(url, provider=provider, access=access)
        status, answer_headers, data = await self._exchange(target, provider, ask)
        if status in (301, 302, 303, 307, 308) and ask.content is None:
            onward = target.url.join(answer_headers.get("location", ""))
            # Secrets are for the host they were configured for.
            kept = ask if onward.host == target.host else replace(ask, headers={})
            target = await checked_target(str(onward), provider=provider, access=access)
            status, answer_headers, data = await self._exchange(target, provider, kept)
        if status == 204:
            return None
        if status == 429:
            retry_at = _retry_at(answer_headers, data)
            raise RateLimited(
                f"{provider}: {target.host} wants no call before {retry_at:%Y-%m-%dT%H:%M:%SZ}",
                retry_at=retry_at,
            )
        if status != 200:
            raise ProviderError(f"{provider}: {target.host} answered {status}; it must be 200")
        return data

    async def _exchange(
        self, target: _Target, provider: str, ask: _Ask
    ) -> tuple[int, httpx.Headers, bytes]:
        """Ask the first of the target's addresses that takes a connection."""
        for address in target.addresses[:-1]:
            try:
                return await self._ask(target, address, provider, ask)
            except httpx.ConnectError:
                continue
        return await self._ask(target, target.addresses[-1], provider, ask)

    async def _ask(
        self, target: _Target, address: str, provider: str, ask: _Ask
    ) -> tuple[int, httpx.Headers, bytes]:
        if self._tls is None:
            # Reading the certificate authorities takes long enough to be felt in the loop.
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        netloc = target.url.netloc.decode("ascii")
        async with (
            httpx.AsyncClient(
                verify=self._tls,
                trust_env=False,
                follow_redirects=False,
                timeout=httpx.Timeout(WHOLE_S, connect=CONNECT_S),
            ) as client,
            client.stream(
                "GET" if ask.content is None else "POST",
                target.url.copy_with(host=address, port=target.port),
                headers={
                    **ask.headers,
                    "Host": netloc,
                    "Accept": ask.accept,
                    # Nothing compressed: a small answer must not unfold into a large one.
                    "Accept-Encoding": "identity",
                    "User-Agent": "tasco",
                },
                content=ask.content,
                extensions={"sni_hostname": target.host},
            ) as response,
        ):
            if response.headers.get("content-encoding", "identity") != "identity":
                raise ProviderError(f"{provider}: the answer is compressed; it must not be")
            data = bytearray()
            async for chunk in response.aiter_raw():
                data += chunk
                if len(data) > MAX_BODY:
                    raise ProviderError(f"{provider}: the answer is larger than {MAX_BODY} bytes")
            return response.status_code, response.headers, bytes(data)


async def checked_target(url: str, *, provider: str, access: Access) -> _Target:
    """Return the address to connect to for `url`. Raises ProviderError for a forbidden one."""
    parsed = _url(url, provider)
    if parsed.scheme not in ("https", "http") or not parsed.host:
        raise ProviderError(f"{provider}: url is {url!r:.80}; it must start with https://")
    if parsed.userinfo:
        raise ProviderError(f"{provider}: url holds a user name; use a token instead")
    port = parsed.port or (443 if parsed.scheme == "https" else 80)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            parsed.host, port, type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError) as error:
        raise ProviderError(f"{provider}: {parsed.host} cannot be resolved: {error}") from error
    addresses = [ipaddress.ip_address(info[4][0]) for info in found]
    is_local = all(is_loopback(address) for address in addresses)
    is_plain = access.allow_plain and not is_local
    if parsed.scheme == "http" and not (is_plain or (access.allow_http and is_local)):
        raise ProviderError(
            f"{provider}: url is {url!r:.80}; it must be https (http is for loopback, "
            f"with allow_http)"
        )
    is_development = access.allow_http and is_local
    if not is_development and port not in access.ports:
        raise ProviderError(
            f"{provider}: port {port} is not permitted; permitted: "
            f"{', '.join(map(str, access.ports))}"
        )
    if not (is_development or access.allow_private):
        inner = next((address for address in addresses if not is_public(address)), None)
        if inner is not None:
            raise ProviderError(
                f"{provider}: {parsed.host} leads to {inner}, which is no public address "
                f"(allow_private permits it)"
            )
    return _Target(parsed, parsed.host, tuple(dict.fromkeys(map(str, addresses))), port)


def _url(url: str, provider: str) -> httpx.URL:
    try:
        return httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise ProviderError(f"{provider}: url is {url!r:.80}: {error}") from error


def parsed_json(data: bytes, *, provider: str) -> object:
    """Return the JSON value of `data`: UTF-8, no NaN, at most 32 levels deep."""

    def refuse(constant: str) -> object:
        raise ValueError(f"{constant} is no JSON number")

    try:
        value: object = json.loads(data.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ProviderError(f"{provider}: the answer is no JSON: {error}") from error
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ProviderError(f"{provider}: the answer is nested deeper than {MAX_DEPTH}")
        level = [
            child
            for item in level
            for child in (
                item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
            )
            if isinstance(child, dict | list)
        ]
    return value


def _retry_at(headers: httpx.Headers, data: bytes) -> datetime:
    """Return when to ask again: the header's word, then the body's, else in an hour."""
    now = datetime.now(UTC)
    stated = headers.get("retry-after", "")
    if stated.isdecimal() and len(stated) < 8:
        return now + timedelta(seconds=int(stated))
    try:
        if stated:
            at = parsedate_to_datetime(stated)
        else:
            found = json.loads(data)["message"]["ratelimit"]["retry-at"]
            at = datetime.fromisoformat(found)
    except (ValueError, KeyError, TypeError, RecursionError):
        return now + timedelta(hours=1)
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
