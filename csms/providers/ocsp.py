"""OCSP responders, asked only where the operator lists their host.

A responder is named by a certificate or by a station, so its address comes from outside: without
the list a station could have us call any host. Answers are signed, which is why plain http is good
enough; the addresses behind a name are judged as for every other provider.
"""

from collections.abc import Collection

import httpx

from csms.core.errors import ProviderError
from csms.providers.fetch import Access, Fetcher

_PROVIDER = "ocsp"


class OcspResponders:
    """Asks responders."""

    def __init__(
        self, *, hosts: Collection[str], fetcher: Fetcher, allow_local: bool = False
    ) -> None:
        """`allow_local` permits listed hosts on loopback, at any port: for tests."""
        self._hosts = frozenset(host.casefold() for host in hosts)
        self._fetcher = fetcher
        self._access = Access(allow_http=allow_local, allow_plain=True, ports=(443, 80))

    async def ask(self, url: str, question: bytes) -> bytes:
        """Return the answer (DER) of the responder at `url`; raise ProviderError."""
        try:
            host = httpx.URL(url).host.casefold()
        except (httpx.InvalidURL, ValueError) as error:
            raise ProviderError(f"{_PROVIDER}: url is {url!r:.80}: {error}") from error
        if host not in self._hosts:
            raise ProviderError(f"{_PROVIDER}: {host!r:.80} is not listed in security.ocsp_hosts")
        return await self._fetcher.posted(
            url,
            provider=_PROVIDER,
            access=self._access,
            content=question,
            content_type="application/ocsp-request",
            accept="application/ocsp-response",
        )
