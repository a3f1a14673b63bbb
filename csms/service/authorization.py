"""Id token -> holder -> decision, on record; the rule itself is csms.identity.policy.decide."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from csms.core.messages import TokenPresented, TokenReply
from csms.core.model import (
    AccessPolicy,
    Authorization,
    AuthorizationStatus,
    Event,
    Holder,
    IdToken,
    OcppVersion,
    Site,
    Station,
    TokenRecord,
)
from csms.identity import alias, contract, policy
from csms.identity.credentials import Reason
from csms.identity.policy import UnknownTokenLimiter, decide
from csms.service.contracts import Contracts
from csms.store import access, identities, journal, sessions, stations
from csms.store.database import Store
from csms.store.statements import Tx
from csms.telemetry import token_hint

log = structlog.get_logger(__name__)

_MOST_REFUSED = 10_000
_CONTRACT_ENDED = frozenset(
    {
        AuthorizationStatus.BLOCKED,
        AuthorizationStatus.EXPIRED,
        AuthorizationStatus.INVALID,
        AuthorizationStatus.UNKNOWN,
    }
)
"""Refusals of a token that end its contract for a vehicle (OCPP 2.0.1 errata, C07.FR.14)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantKeys:
    """Keys of the 20-character names: the present one and, during a change, the one before."""

    key: bytes
    epoch: int = 1
    previous: bytes | None = None

    @property
    def previous_epoch(self) -> int:
        """The epoch before: epochs run from 1 to 9 and begin again."""
        return (self.epoch - 2) % 9 + 1

    def fingerprint(self, did: str) -> str:
        """Return the name that stands for `did` on the wire."""
        return alias.fingerprint(did, key=self.key, epoch=self.epoch - 1)

    def fingerprints(self, did: str) -> tuple[tuple[str, int], ...]:
        """Return the names in force for `did` with their epochs, the present one first."""
        names = [(self.fingerprint(did), self.epoch)]
        if self.previous is not None:
            epoch = self.previous_epoch
            names.append((alias.fingerprint(did, key=self.previous, epoch=epoch - 1), epoch))
        return tuple(names)

    def is_in_force(self, epoch: int) -> bool:
        """Return whether names of `epoch` count; 0 stands for names that have none."""
        if epoch in (0, self.epoch):
            return True
        return self.previous is not None and epoch == self.previous_epoch

    def group(self, organisation: str) -> str:
        """Return the group name of `organisation`, "" for none."""
        return alias.group_token(organisation, key=self.key) if organisation else ""


def new_session_token() -> str:
    """Return a fresh one-time token for a remote start."""
    return alias.session_token(os.urandom(12))


class Authorizer:
    """Decides on presented tokens from what the store holds, and keeps each decision.

    DID documents are stored at enrolment, so that nothing here waits for the network; only a
    contract certificate that comes with a token is asked about, for seconds at most.
    """

    def __init__(
        self,
        *,
        store: Store,
        policies: Mapping[str, AccessPolicy],
        keys: TenantKeys,
        master_organisation: str = "",
        contracts: Contracts | None = None,
    ) -> None:
        """Tokens of `master_organisation` are master passes: they stop what others started.

        Without `contracts` no certificate that comes with a token counts.
        """
        self.contracts = contracts
        self._refused: dict[tuple[str, str], str] = {}
        self.master_organisation = master_organisation
        self.store = store
        self.policies = policies
        self.keys = keys
        self._unknown = UnknownTokenLimiter()

    async def presented(self, report: TokenPresented) -> TokenReply:
        """Answer Authorize. Whatever fails in here refuses: identity fails closed."""
        shown = await self._certificate(report)
        authorization = await self.store.write(
            lambda tx: self.decide(
                tx,
                report.station_id,
                report.id_token,
                version=report.version,
                evse_id=None,
                now=report.received_at,
                is_start=False,
            )
        )
        if authorization.reason == "token_unknown":
            self._unknown.unknown(report.station_id, report.received_at)
        if shown == contract.ACCEPTED and authorization.status in _CONTRACT_ENDED:
            shown = contract.CANCELLED
        return TokenReply(authorization=authorization, certificate_status=shown)

    async def _certificate(self, report: TokenPresented) -> str:
        """Return what holds of the certificate that came along, "" where none did.

        One that is not good keeps its token refused at that station, also in what follows without
        a certificate, until a good one is shown.
        """
        if not report.certificate and not report.hash_data:
            return ""
        found = contract.UNCHECKED
        if self.contracts is not None:
            found = await self.contracts.status_of(report)
        place = (report.station_id, report.id_token.value)
        self._refused.pop(place, None)
        if found != contract.ACCEPTED:
            if len(self._refused) >= _MOST_REFUSED:
                del self._refused[next(iter(self._refused))]
            self._refused[place] = found
        return found

    def decide(
        self,
        tx: Tx,
        station_id: str,
        id_token: IdToken,
        *,
        version: OcppVersion,
        evse_id: int | None,
        now: datetime,
        is_start: bool,
    ) -> Authorization:
        """Return the decision inside the caller's transaction, and log it there.

        A fault in the rule refuses with the reason "internal" and an event: a CALLERROR would
        leave the station to its own ideas (identity.md 5).
        """
        station = stations.get_station(tx, station_id)
        site = stations.get_site(tx, station.site_id)
        try:
            authorization = self._decide(
                tx,
                station,
                site,
                id_token,
                version=version,
                evse_id=evse_id,
                now=now,
                is_start=is_start,
            )
        except (ArithmeticError, LookupError, TypeError, ValueError):
            log.exception("decision failed", station_id=station_id)
            journal.add_event(
                tx,
                Event(at=now, kind="decision failed", level="warning", station_id=station_id),
            )
            authorization = Authorization(status=AuthorizationStatus.INVALID, reason="internal")
        if authorization.is_accepted and (station_id, id_token.value) in self._refused:
            authorization = Authorization(
                status=AuthorizationStatus.INVALID,
                reason=Reason.CERTIFICATE_REFUSED,
                holder_did=authorization.holder_did,
            )
        if not authorization.is_accepted:
            authorization = replace(authorization, message=policy.message_of(authorization.reason))
        access.add_decision(
            tx,
            access.Decision(
                at=now,
                station_id=station_id,
                token_hint=token_hint(id_token.value),
                holder_did=authorization.holder_did,
                status=authorization.status,
                reason=authorization.reason,
                assurance=authorization.assurance,
                priority=authorization.priority,
            ),
        )
        return authorization

    def _decide(
        self,
        tx: Tx,
        station: Station,
        site: Site,
        id_token: IdToken,
        *,
        version: OcppVersion,
        evse_id: int | None,
        now: datetime,
        is_start: bool,
    ) -> Authorization:
        if self._unknown.is_limited(station.station_id, now):
            return Authorization(status=AuthorizationStatus.UNKNOWN, reason="rate_limited")
        record = self.find(tx, station, id_token)
        holder = None if record is None else identities.holder_of_did(tx, record.did)
        return decide(
            id_token,
            record,
            holder,
            station_id=station.station_id,
            site=site,
            evse_id=evse_id,
            open_sessions=_open_sessions(tx, id_token, record),
            policy=self.policies.get(site.site_id, AccessPolicy()),
            now=now,
            is_start=is_start,
            group="" if holder is None else self.keys.group(holder.organisation),
            is_master=self._is_master(holder),
            evses_here=_evses_here(tx, station, holder),
        )

    @property
    def master_group(self) -> str:
        """The group name of master passes, "" where there are none."""
        return self.keys.group(self.master_organisation)

    def _is_master(self, holder: Holder | None) -> bool:
        organisation = "" if holder is None else holder.organisation
        return bool(organisation) and organisation == self.master_organisation

    def again(self, tx: Tx, decided: Authorization) -> Authorization:
        """Return a stored decision with what an answer says beside its status.

        Group, expiry and EVSEs are not stored: they are what the holder's entry says now.
        """
        if not decided.is_accepted:
            return replace(decided, message=policy.message_of(decided.reason))
        holder = identities.holder_of_did(tx, decided.holder_did) if decided.holder_did else None
        if holder is None:
            return decided
        return replace(
            decided,
            group=self.keys.group(holder.organisation),
            evse_ids=policy.permitted_evse_ids(holder),
        )

    def stopping(self, tx: Tx, station_id: str, id_token: IdToken) -> Authorization:
        """Return the acceptance of a token that may stop what another one started."""
        record = self.find(tx, stations.get_station(tx, station_id), id_token)
        accepted = Authorization(
            status=AuthorizationStatus.ACCEPTED,
            reason="may_stop",
            holder_did="" if record is None else record.did,
        )
        return self.again(tx, accepted)

    def find(self, tx: Tx, station: Station, id_token: IdToken) -> TokenRecord | None:
        """Return the enrolled token that `id_token` means at `station`, None if there is none."""
        looked_up = alias.normalise(id_token, reversed_bytes=station.uid_byte_order_reversed)
        for kind, value in looked_up:
            record = identities.find_token(tx, kind, value)
            if record is not None and self.keys.is_in_force(record.key_epoch):
                return record
        return None

    def consume(self, tx: Tx, station_id: str, id_token: IdToken, session_id: str) -> None:
        """Use up a one-time token that `session_id` was started with; others stay as they are."""
        record = self.find(tx, stations.get_station(tx, station_id), id_token)
        if record is not None and record.kind == alias.TokenKind.SESSION:
            identities.consume_token(tx, record.kind, record.value, session_id)

    def may_stop(self, tx: Tx, station_id: str, started_with: IdToken, id_token: IdToken) -> bool:
        """Return whether `id_token` may stop what `started_with` began (policy.may_stop)."""
        station = stations.get_station(tx, station_id)
        presented = self.find(tx, station, id_token)
        started_by = self.find(tx, station, started_with)
        holder = None if presented is None else identities.holder_of_did(tx, presented.did)
        return policy.may_stop(
            presented,
            holder,
            started_by=started_by,
            starter=None if started_by is None else identities.holder_of_did(tx, started_by.did),
            is_master=self._is_master(holder),
        )


def _evses_here(tx: Tx, station: Station, holder: Holder | None) -> tuple[int, ...]:
    """Return the station's EVSEs where it matters which they are."""
    if holder is None or not any(c.evse_ids for c in holder.credentials):
        return ()
    return tuple(e.evse_id for e in stations.evses_of_station(tx, station.station_id))


def _open_sessions(tx: Tx, id_token: IdToken, record: TokenRecord | None) -> int:
    """Return how many sessions whoever presents `id_token` has running.

    A start that was refused leaves a session open until its station ends it; it is nobody's turn.
    A token without a holder is told by its spellings.
    """
    if record is None:
        return 0
    if record.did:
        found = sessions.open_sessions_of_holder(tx, record.did)
    else:
        shown = id_token.value.strip()
        spellings = {id_token.value, shown.upper(), shown.lower(), record.value}
        found = sessions.open_sessions_of_token(tx, sorted(spellings))
    return sum(s.is_authorized for s in found)
