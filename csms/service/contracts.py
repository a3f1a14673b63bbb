"""Contract certificates: whether what a vehicle shows beside its eMAID is good, asked in time;
and new ones, from the contract service that the operator named.

A station sends either the hashes of the contract's chain with the responders to ask, or the chain
itself (OCPP 2.x C07). This is the one decision that waits for the network, and only where a
certificate is shown: it ends within seconds, and what could not be checked is not accepted. An
answer counts until its nextUpdate, so that a vehicle that comes back is not asked about again.
"""

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog

from csms.core.errors import InvalidInput, ProviderError
from csms.core.messages import TokenPresented
from csms.core.security import HashData, OcspQuestion
from csms.core.security_messages import (
    ContractAsked,
    ContractReply,
    StatusAsked,
    StatusReply,
)
from csms.identity import contract, ocsp
from csms.identity.contract import ACCEPTED, REVOKED, UNCHECKED
from csms.identity.ocsp import Known, Revocation, Verdict
from csms.service.sources import ContractSource, OcspSource

log = structlog.get_logger(__name__)

WITHIN_S: Final = 4.0
"""Machine seconds for all responders together: a station waits five for its answer."""
_MOST_KEPT: Final = 10_000


@dataclass(slots=True)
class Contracts:
    """Checks contract certificates, and passes on what responders say."""

    source: OcspSource
    trusted: Known
    issuer: ContractSource | None = None
    """Who issues contract certificates; None where the operator named nobody."""
    within_s: float = WITHIN_S
    _kept: dict[HashData, tuple[Verdict, bytes]] = field(default_factory=dict)

    async def status_of(self, report: TokenPresented) -> str:
        """Return the certificateStatus of what a token came with, "" if it came with nothing."""
        if not report.certificate and not report.hash_data:
            return ""
        try:
            async with asyncio.timeout(self.within_s):
                if report.hash_data:
                    return await self._by_hashes(report.hash_data, (), report.received_at)
                return await self._by_chain(report)
        except TimeoutError:
            why = f"no answer within {self.within_s:g} s"
        except (InvalidInput, ProviderError) as error:
            why = str(error)
        log.warning("contract not checked", station_id=report.station_id, why=why)
        return UNCHECKED

    async def asked(self, report: StatusAsked) -> StatusReply:
        """Return what the responder says that a station names, as it was signed; Failed if none."""
        try:
            async with asyncio.timeout(self.within_s):
                _, answer = await self._answer(report.question, (), report.received_at)
        except TimeoutError:
            why = f"no answer within {self.within_s:g} s"
        except (InvalidInput, ProviderError) as error:
            why = str(error)
        else:
            return StatusReply(result=base64.b64encode(answer).decode())
        log.warning("certificate status not known", station_id=report.station_id, why=why)
        return StatusReply(result="")

    async def requested(self, report: ContractAsked) -> ContractReply:
        """Return what the contract service answers to a vehicle; "" if there is none, or no answer.

        It has as long as a responder: a vehicle waits five seconds in all.
        """
        if self.issuer is None:
            why = "no contract service is set up (security.contract_service_url)"
        else:
            try:
                async with asyncio.timeout(self.within_s):
                    return await self.issuer.issue(report)
            except TimeoutError:
                why = f"no answer within {self.within_s:g} s"
            except ProviderError as error:
                why = str(error)
        log.warning("no contract certificate", station_id=report.station_id, why=why)
        return ContractReply(exi_response="")

    async def _by_hashes(self, asked: Sequence[OcspQuestion], others: Known, now: datetime) -> str:
        for one in asked:
            found, _ = await self._answer(one, others, now)
            if found.revocation is Revocation.REVOKED:
                return REVOKED
            if found.revocation is not Revocation.GOOD:
                return UNCHECKED
        return ACCEPTED

    async def _by_chain(self, report: TokenPresented) -> str:
        now = report.received_at
        found = contract.chain(report.certificate, report.id_token, trusted=self.trusted, now=now)
        return found.fault or await self._by_hashes(found.questions, found.others, now)

    async def _answer(
        self, asked: OcspQuestion, others: Known, now: datetime
    ) -> tuple[Verdict, bytes]:
        kept = self._kept.get(asked.certificate)
        if kept is not None and kept[0].until > now:
            return kept
        told = await self.source.ask(asked.responder_url, ocsp.question(asked.certificate))
        found = ocsp.verdict(told, asked.certificate, trusted=self.trusted, others=others, now=now)
        self._kept.pop(asked.certificate, None)
        if len(self._kept) >= _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[asked.certificate] = found, told
        return found, told
