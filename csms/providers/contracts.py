"""A service that issues contract certificates to vehicles (ISO 15118), over HTTP.

A vehicle's request and the answer to it are EXI that only the service and the vehicle read: both go
through as they came. The body is JSON in OCPP's own words, so that any contract service needs but
a small bridge: `iso15118SchemaVersion`, `action`, `exiRequest` and, in 2.1,
`maximumContractCertificateChains` and `prioritizedEMAIDs` are answered with `exiResponse` and,
where more contracts wait, `remainingContracts`.
"""

import httpx

from csms.core.errors import ConfigError, ProviderError
from csms.core.security_messages import ContractAsked, ContractReply
from csms.providers.fetch import Access, Fetcher

_PROVIDER = "contract service"


class HttpContracts:
    """Asks the service that the operator named; no station's word leads anywhere."""

    def __init__(
        self, *, url: str, token: str, fetcher: Fetcher, allow_local: bool = False
    ) -> None:
        """`allow_local` permits private addresses, plain http on loopback. Raises ConfigError."""
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise ConfigError(f"security.contract_service_url is {url!r:.80}: {error}") from error
        if parsed.scheme not in ("https", "http") or not parsed.host:
            raise ConfigError(
                f"security.contract_service_url is {url!r:.80}; it must begin with https://"
            )
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._fetcher = fetcher
        self._access = Access(
            allow_http=allow_local, allow_private=allow_local, ports=(parsed.port or 443,)
        )

    async def issue(self, asked: ContractAsked) -> ContractReply:
        """Return the service's answer to a vehicle's request; raise ProviderError."""
        body: dict[str, object] = {
            "iso15118SchemaVersion": asked.schema_version,
            "action": asked.action,
            "exiRequest": asked.exi_request,
        }
        if asked.most_chains is not None:
            body["maximumContractCertificateChains"] = asked.most_chains
        if asked.first_emaids:
            body["prioritizedEMAIDs"] = list(asked.first_emaids)
        found = await self._fetcher.json(
            self._url, provider=_PROVIDER, access=self._access, headers=self._headers, body=body
        )
        answer = found if isinstance(found, dict) else {}
        response, remaining = answer.get("exiResponse"), answer.get("remainingContracts")
        if not isinstance(response, str) or not response:
            raise ProviderError(f"{_PROVIDER}: the answer has no exiResponse")
        is_count = isinstance(remaining, int) and not isinstance(remaining, bool) and remaining >= 0
        return ContractReply(
            exi_response=response, remaining_contracts=remaining if is_count else None
        )
