"""Claims about holders: entered, suspended, revoked, removed, and what stays use of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from csms.clock import Clock
from csms.core.errors import InvalidInput
from csms.core.model import AccessPolicy, Credential, Event, Session, SessionState
from csms.identity.credentials import paying
from csms.store import allowances, identities, journal, sessions, stations
from csms.store.database import Store
from csms.store.statements import Tx
from csms.telemetry import token_hint

STATES = ("valid", "suspended", "revoked")
_LATE = timedelta(days=7)
"""A station that was away may correct what a stay took for this long after its end."""
_STAYS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimDesk:
    """What operators enter is a stored claim: nobody verified it."""

    store: Store
    clock: Clock

    async def put(self, claim: Credential, *, by: str) -> Credential:
        """Store a claim, replacing the one of the same id; what was used of it stays.

        An allowance without a beginning begins when it is entered: earlier stays do not use it.
        Raises NotFound if its subject is no holder, InvalidInput for one of another subject.
        """
        now = self.clock.now()

        def work(tx: Tx) -> Credential:
            holder = identities.get_holder(tx, claim.subject)
            known = identities.find_credential(tx, claim.credential_id)
            if known is not None and known.subject != claim.subject:
                raise InvalidInput(
                    f"credential_id {claim.credential_id} is a claim about another holder"
                )
            since = claim.valid_from or (known.valid_from if known is not None else None)
            if since is None and claim.allowance_kwh is not None:
                since = now
            identities.upsert_credential(tx, replace(claim, valid_from=since))
            self._note(tx, "claim entered", claim.credential_id, holder.did, by)
            return identities.get_credential(tx, claim.credential_id)

        return await self.store.write(work)

    async def set_status(self, credential_id: str, status: str, *, by: str) -> Credential:
        """Make a claim valid, suspended or revoked; raise NotFound.

        From the next presentation of a token on it counts, and on the stations' local lists within
        a minute; what charges goes on.
        """
        if status not in STATES:
            raise InvalidInput(f"status is {status!r:.40}; permitted: {', '.join(STATES)}")

        def work(tx: Tx) -> Credential:
            identities.set_credential_status(tx, credential_id, status)
            found = identities.get_credential(tx, credential_id)
            self._note(tx, f"claim {status}", credential_id, found.subject, by)
            return found

        return await self.store.write(work)

    async def remove(self, credential_id: str, *, by: str) -> None:
        """Forget a claim; raise NotFound."""

        def work(tx: Tx) -> None:
            found = identities.get_credential(tx, credential_id)
            identities.delete_credential(tx, credential_id)
            self._note(tx, "claim removed", credential_id, found.subject, by)

        await self.store.write(work)

    def _note(self, tx: Tx, what: str, credential_id: str, holder_did: str, by: str) -> None:
        # An imported claim's id begins with its holder's DID.
        claim, holder = token_hint(credential_id), token_hint(holder_did)
        event = Event(
            at=self.clock.now(), kind=what, detail={"by": by, "claim": claim, "holder": holder}
        )
        journal.add_event(tx, event)


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowanceBook:
    """Counts on each claim with an allowance what its holder's stays took, once they are over."""

    store: Store
    clock: Clock
    policies: Mapping[str, AccessPolicy]

    async def count(self) -> int:
        """Count stays that ended, or were corrected, since the last time; return how many."""
        if not await self.store.read(allowances.holders):
            return 0
        since = self.clock.now() - _LATE

        def work(tx: Tx) -> int:
            counted = 0
            for holder_did in allowances.holders(tx):
                page = sessions.list_sessions(
                    tx, holder_did=holder_did, state=SessionState.ENDED, limit=_STAYS
                )
                # In the order of their ends, so that each takes what the one before it left.
                recent = [s for s in page.items if s.ended_at is not None and s.ended_at >= since]
                for session in sorted(recent, key=lambda s: s.ended_at or s.started_at):
                    counted += self._counted(tx, session)
            return counted

        return await self.store.write(work)

    def _counted(self, tx: Tx, session: Session) -> bool:
        energy_kwh = session.energy_wh / 1000.0
        known = allowances.used(tx, session.number)
        if known is not None:
            credential_id, before_kwh = known
            if not credential_id or abs(before_kwh - energy_kwh) < 1e-6:
                return False
        else:
            credential_id = self._pays(tx, session)
        allowances.count(tx, session.number, credential_id, energy_kwh)
        if not credential_id:
            return False
        identities.count_change(tx)
        return True

    def _pays(self, tx: Tx, session: Session) -> str:
        """Return the claim that a stay uses, "" for none; one revoked since its start pays too."""
        policy = self.policies.get(session.site_id, AccessPolicy())
        site = stations.get_site(tx, session.site_id)
        if not session.is_authorized or policy.free_charging or site.free_charging:
            return ""
        claim = paying(
            [replace(c, status="valid") for c in identities.credentials_of(tx, session.holder_did)],
            site=site,
            trusted_issuers=policy.trusted_issuers,
            now=session.started_at,
        )
        return "" if claim is None else claim.credential_id
