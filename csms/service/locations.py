"""Which URLs a station may be sent to for its firmware, its logs and what it publishes.

A station fetches what we name with its own network's eyes: an address of the machine itself or of
the link would turn it against its surroundings, and a login in a URL is written to many logs. What
an operator needs all the same is allowed by name in the configuration (api.md K5).
"""

import asyncio
import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from csms.core.errors import InvalidInput

MAX_URL = 512
"""OCPP's limit for a location."""
_LOGIN = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/@\s]*@")
_ONE_TIME = re.compile(r"(/uploads/)[\w-]+")
_RESOLVED_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationPolicy:
    """What is allowed: schemes, and beyond them whole URLs by their beginning.

    `allowed_urls` are beginnings such as "ftp://files.example/logs/": a URL below one of them is
    taken whatever its scheme, host or login. `allow_unresolved` takes names that this machine
    cannot look up, which stations in another network may.
    """

    schemes: tuple[str, ...] = ("https",)
    allowed_urls: tuple[str, ...] = ()
    allow_unresolved: bool = False

    async def check(self, url: str) -> None:
        """Raise InvalidInput, naming what is wrong but no secret, if `url` is not allowed."""
        parts = _split(url)
        if any(_is_below(parts, _split(allowed)) for allowed in self.allowed_urls):
            return
        if parts.scheme not in self.schemes:
            known = ", ".join(self.schemes)
            raise InvalidInput(
                f"location: {parts.scheme or 'no scheme'} is not allowed; permitted: {known}, "
                "and what transfers.allowed_urls lists"
            )
        if parts.username is not None or parts.password is not None:
            raise InvalidInput(
                "location: a login in the URL is not allowed; list the URL in "
                "transfers.allowed_urls if the station needs it"
            )
        if not parts.hostname:
            raise InvalidInput("location: there is no host in the URL")
        for address in await self._addresses(parts.hostname):
            if _is_inward(address):
                raise InvalidInput(
                    f"location: {parts.hostname} is the machine itself or its link; list the URL "
                    "in transfers.allowed_urls if that is meant"
                )

    async def _addresses(self, host: str) -> list[str]:
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_RESOLVED_WITHIN_S):
                found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError, UnicodeError) as error:
            if self.allow_unresolved:
                return []
            raise InvalidInput(
                f"location: {host} cannot be looked up; transfers.allow_unresolved lets it pass"
            ) from error
        return [str(item[4][0]) for item in found]


def _split(url: str) -> SplitResult:
    # A backslash ends the host for some readers of URLs and not for others.
    if not 1 <= len(url) <= MAX_URL or not url.isprintable() or " " in url or "\\" in url:
        raise InvalidInput(f"location must be a URL of 1 to {MAX_URL} characters")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise InvalidInput("location is no URL") from error
    return parts


def _is_below(parts: SplitResult, allowed: SplitResult) -> bool:
    same_place = (parts.scheme, parts.hostname, parts.port) == (
        allowed.scheme,
        allowed.hostname,
        allowed.port,
    )
    folder = allowed.path if allowed.path.endswith("/") else f"{allowed.path}/"
    is_inside = parts.path == allowed.path or parts.path.startswith(folder)
    return same_place and is_inside and ".." not in unquote(parts.path).split("/")


def _is_inward(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    found = mapped or found
    return found.is_loopback or found.is_link_local or found.is_unspecified or found.is_multicast


def masked_location(url: str) -> str:
    """Return `url` without its login, and without the secret of a one-time place of ours."""
    return _ONE_TIME.sub(r"\1***", _LOGIN.sub(r"\1***@", url))
