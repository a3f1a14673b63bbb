"""What the service needs from outside, as protocols; csms.providers has the built-in ones.

A source that fails raises ProviderError; the service works around it: no prices means planning
with the last good ones or a flat price, never no plan.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from csms.core.model import CarbonIntensity, Price
from csms.core.security_messages import ContractAsked, ContractReply


class TariffSource(Protocol):
    """Energy prices."""

    async def prices(self, start: datetime, until: datetime) -> Sequence[Price]:
        """Return what is known of [start, until), in order, without overlap; gaps are gaps."""
        ...


class CarbonSource(Protocol):
    """Grid emissions."""

    async def intensity(self, start: datetime, until: datetime) -> Sequence[CarbonIntensity]:
        """Return what is known of [start, until), in order, without overlap."""
        ...


class OcspSource(Protocol):
    """OCSP responders."""

    async def ask(self, url: str, question: bytes) -> bytes:
        """Return what the responder at `url` answers to `question`, both DER (RFC 6960)."""
        ...


class ContractSource(Protocol):
    """A service that issues contract certificates to vehicles (ISO 15118)."""

    async def issue(self, asked: ContractAsked) -> ContractReply:
        """Return its answer to a vehicle's request, which only it and the vehicle read."""
        ...
