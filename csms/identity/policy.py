"""The decision on a presented token: one pure function for Authorize and session starts.

Everything is in OCPP 2.0.1's words; adapters map them to their version. A refusal is a value. When
several credentials fail, the most useful refusal is given; one that suffices accepts.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from csms.core.model import (
    AccessPolicy,
    Authorization,
    AuthorizationStatus,
    Credential,
    Holder,
    IdToken,
    Site,
    TokenRecord,
)
from csms.identity.alias import is_anonymous
from csms.identity.credentials import (
    Reason,
    Verdict,
    evaluate,
    grants_access,
    grants_priority,
    permits_site,
)

MAX_PRIORITY: Final = 9
"""Bounds of chargingPriority (OCPP 2.0.1, IdTokenInfoType)."""

_MOST_USEFUL_FIRST: Final = (
    AuthorizationStatus.BLOCKED,
    AuthorizationStatus.EXPIRED,
    AuthorizationStatus.NO_CREDIT,
    AuthorizationStatus.NOT_AT_THIS_TIME,
    AuthorizationStatus.NOT_AT_THIS_LOCATION,
    AuthorizationStatus.NOT_ALLOWED_TYPE_EVSE,
    AuthorizationStatus.INVALID,
    AuthorizationStatus.UNKNOWN,
)
_RANK: Final = {status: rank for rank, status in enumerate(_MOST_USEFUL_FIRST)}
_TOKEN_STATES: Final = {
    "blocked": Reason.TOKEN_BLOCKED,
    "suspended": Reason.TOKEN_SUSPENDED,
    "lost": Reason.TOKEN_LOST,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Where, when and by whom a token is presented; what `decide` passes around."""

    record: TokenRecord
    holder: Holder | None
    station_id: str
    site: Site
    evse_id: int | None
    open_sessions: int
    policy: AccessPolicy
    now: datetime
    is_start: bool
    group: str
    is_master: bool
    evses_here: frozenset[int]

    @property
    def is_free(self) -> bool:
        """Whether anybody may charge here."""
        return self.policy.free_charging or self.site.free_charging


def decide(
    token: IdToken,
    record: TokenRecord | None,
    holder: Holder | None,
    *,
    station_id: str,
    site: Site,
    evse_id: int | None,
    open_sessions: int,
    policy: AccessPolicy,
    now: datetime,
    is_start: bool,
    group: str = "",
    is_master: bool = False,
    evses_here: Collection[int] = (),
    trail: list[str] | None = None,
) -> Authorization:
    """Decide whether `token` may charge.

    `record` is the alias found for the token and `holder` whom it stands for, None if there is
    none. `evse_id` None (or 0) means not known yet. `open_sessions` counts the holder's others:
    that a start is a repeat of a known one is the caller's matter. `group` is the holder's group
    name, passed on when accepted. `is_master` marks a master pass: it may stop what others started
    and starts nothing itself (2.0.1 C16). `evses_here` are the station's EVSEs, empty for not
    known. Checks passed are appended to `trail`.

    A site with free charging refuses only what the operator blocked and what is bound elsewhere.
    """
    trail = [] if trail is None else trail
    is_free = policy.free_charging or site.free_charging
    if is_anonymous(token):
        # An anonymous start is nobody's, whatever was looked up: it must match no empty alias.
        if is_free:
            return _accepted_free()
        return _refusal(AuthorizationStatus.INVALID, Reason.TOKEN_UNKNOWN)
    if record is None or (record.did and holder is None):
        if is_free:
            return _accepted_free()
        return _refusal(AuthorizationStatus.UNKNOWN, Reason.TOKEN_UNKNOWN)
    trail.append("token known")
    attempt = Attempt(
        record=record,
        holder=holder,
        station_id=station_id,
        site=site,
        evse_id=evse_id or None,
        open_sessions=open_sessions,
        policy=policy,
        now=now,
        is_start=is_start,
        group=group,
        is_master=is_master,
        evses_here=frozenset(evses_here),
    )
    refusal = _token_refusal(attempt) or _subject_refusal(attempt)
    if refusal is not None:
        return refusal
    trail.append("token active and bound here, holder active")
    verdicts = _verdicts(attempt)
    refusal = None if attempt.is_free else _access_refusal(attempt, verdicts)
    if refusal is not None:
        return refusal
    trail.append("site, credential, time, EVSE and allowance permit")
    if is_master and is_start:
        return _refused(attempt, AuthorizationStatus.INVALID, Reason.MASTER_STARTS_NOTHING)
    if is_start and open_sessions >= (1 if holder is None else holder.max_open_sessions):
        return _refused(attempt, AuthorizationStatus.CONCURRENT_TX, Reason.CONCURRENT)
    trail.append("no other session in the way")
    return _accepted(attempt, verdicts)


def rate_limited() -> Authorization:
    """Return the answer to a token that was not looked up because its station guessed too often."""
    return _refusal(AuthorizationStatus.UNKNOWN, Reason.RATE_LIMITED)


def may_stop(
    presented: TokenRecord | None,
    holder: Holder | None,
    *,
    started_by: TokenRecord | None,
    starter: Holder | None,
    is_master: bool = False,
) -> bool:
    """Return whether `presented` (of `holder`) may stop what `started_by` (of `starter`) began.

    The token that started and its holder's others may always stop, even if revoked since; another
    token of the same organisation, or a master pass (`is_master`), may while it is active.
    """
    if presented is None:
        return False
    if started_by is not None and _is_same(presented, started_by):
        return True
    if holder is None:
        return False
    is_active = presented.state == "active" and holder.state == "active"
    if is_master and is_active:
        return True
    if starter is None:
        return False
    if holder.did == starter.did:
        return True
    return is_active and bool(holder.organisation) and holder.organisation == starter.organisation


def _is_same(one: TokenRecord, other: TokenRecord) -> bool:
    return bool(one.value) and (one.kind, one.value) == (other.kind, other.value)


class UnknownTokenLimiter:
    """Counts unknown tokens per station: after `limit` within a minute, a minute without look-ups.

    Guessing a card's UID takes look-ups; other stations are unaffected. Time is an argument.
    """

    def __init__(self, *, limit: int = 20, window: timedelta = timedelta(minutes=1)) -> None:
        self._limit = limit
        self._window = window
        self._unknown: dict[str, deque[datetime]] = {}
        self._paused_until: dict[str, datetime] = {}

    def is_limited(self, station_id: str, now: datetime) -> bool:
        """Return whether tokens of `station_id` are refused unlooked-up at `now`."""
        until = self._paused_until.get(station_id)
        if until is None:
            return False
        if now < until:
            return True
        del self._paused_until[station_id]
        return False

    def unknown(self, station_id: str, now: datetime) -> None:
        """Count that `station_id` presented a token nobody knows."""
        seen = self._unknown.setdefault(station_id, deque(maxlen=self._limit))
        while seen and seen[0] <= now - self._window:
            seen.popleft()
        seen.append(now)
        if len(seen) == self._limit:
            self._paused_until[station_id] = now + self._window
            del self._unknown[station_id]


def _token_refusal(attempt: Attempt) -> Authorization | None:
    record, now = attempt.record, attempt.now
    if record.state != "active":
        reason = _TOKEN_STATES.get(record.state, Reason.TOKEN_BLOCKED)
        return _refused(attempt, AuthorizationStatus.BLOCKED, reason)
    if record.consumed_by:
        return _refused(attempt, AuthorizationStatus.INVALID, Reason.SESSION_USED)
    if _is_bound_elsewhere(attempt):
        return _refused(attempt, AuthorizationStatus.INVALID, Reason.SESSION_WRONG_CONNECTOR)
    if record.valid_until is not None and record.valid_until <= now:
        return _refused(attempt, AuthorizationStatus.EXPIRED, Reason.TOKEN_EXPIRED)
    if record.valid_from is not None and record.valid_from > now:
        return _refused(attempt, AuthorizationStatus.NOT_AT_THIS_TIME, Reason.TOKEN_NOT_YET)
    return None


def _is_bound_elsewhere(attempt: Attempt) -> bool:
    record = attempt.record
    if record.station_id and record.station_id != attempt.station_id:
        return True
    return bool(record.evse_id and attempt.evse_id and record.evse_id != attempt.evse_id)


def _subject_refusal(attempt: Attempt) -> Authorization | None:
    if attempt.holder is not None and attempt.holder.state != "active":
        return _refused(attempt, AuthorizationStatus.BLOCKED, Reason.HOLDER_DISABLED)
    if attempt.record.assurance < attempt.policy.min_assurance and not attempt.is_free:
        return _refused(attempt, AuthorizationStatus.INVALID, Reason.ASSURANCE_LOW)
    return None


def _verdicts(attempt: Attempt) -> tuple[Verdict, ...]:
    """Judge the holder's credentials; the EVSE counts at the start only, before it is announced."""
    if attempt.holder is None or not attempt.holder.credentials:
        return ()
    return evaluate(
        attempt.holder.credentials,
        site=attempt.site,
        evse_id=attempt.evse_id if attempt.is_start else None,
        trusted_issuers=attempt.policy.trusted_issuers,
        now=attempt.now,
    )


def _access_refusal(attempt: Attempt, verdicts: Iterable[Verdict]) -> Authorization | None:
    membership = [v for v in verdicts if grants_access(v.credential)]
    refusals = [(v.refusal, v.reason) for v in membership if v.refusal is not None]
    holder = attempt.holder
    permitted = _evse_ids([v.credential for v in membership if v.is_sufficient])
    if permitted and attempt.evses_here and attempt.evses_here.isdisjoint(permitted):
        # Permitted elsewhere only: no list of EVSEs could be given that means anything here.
        return _refused(attempt, AuthorizationStatus.NOT_AT_THIS_LOCATION, Reason.EVSE_REFUSED)
    if holder is not None and not permits_site(holder.allowed_sites, attempt.site.site_id):
        refusals.append((AuthorizationStatus.NOT_AT_THIS_LOCATION, Reason.SITE_REFUSED))
    elif any(v.is_sufficient for v in membership):
        return None
    if not membership and attempt.policy.requires_credential:
        refusals.append((AuthorizationStatus.INVALID, Reason.CREDENTIAL_MISSING))
    if not refusals:
        return None
    status, reason = min(refusals, key=lambda refusal: _RANK[refusal[0]])
    return _refused(attempt, status, reason)


def _accepted(attempt: Attempt, verdicts: tuple[Verdict, ...]) -> Authorization:
    sufficient = [v.credential for v in verdicts if v.is_sufficient]
    membership = [c for c in sufficient if grants_access(c)]
    priority, is_lowered = _priority(attempt, [c for c in sufficient if grants_priority(c)])
    reason = Reason.ACCEPTED
    if is_lowered:
        reason = Reason.ASSURANCE_LOW
    elif attempt.is_free and not membership:
        reason = Reason.FREE_CHARGING
    return Authorization(
        status=AuthorizationStatus.ACCEPTED,
        reason=reason,
        holder_did=attempt.record.did,
        assurance=attempt.record.assurance,
        priority=priority,
        group=attempt.group,
        expires_at=_expiry(attempt, membership),
        evse_ids=_evse_ids(membership),
    )


def _priority(attempt: Attempt, credentials: list[Credential]) -> tuple[int, bool]:
    """Return the priority, and whether a higher one was withheld for want of assurance.

    The operator's own entry and verified credentials raise; unverified ones only lower.
    """
    entered = 0 if attempt.holder is None else attempt.holder.priority
    stated = max([entered, *(c.priority for c in credentials if c.is_verified)])
    lowest = min([0, *(c.priority for c in credentials if not c.is_verified)])
    is_lowered = stated > 0 and attempt.record.assurance < attempt.policy.priority_min_assurance
    if is_lowered:
        stated = 0
    if lowest < 0:
        stated = min(stated, lowest)
    return max(-MAX_PRIORITY, min(MAX_PRIORITY, stated)), is_lowered


def _expiry(attempt: Attempt, membership: list[Credential]) -> datetime:
    ends = [attempt.now + timedelta(seconds=attempt.policy.offline_horizon_s)]
    if attempt.record.valid_until is not None:
        ends.append(attempt.record.valid_until)
    # The right to charge lasts as long as any one of the credentials that give it.
    limited = [c.valid_until for c in membership if c.valid_until is not None]
    if limited and len(limited) == len(membership):
        ends.append(max(limited))
    return min(ends)


def _evse_ids(membership: list[Credential]) -> tuple[int, ...]:
    if not all(c.evse_ids for c in membership):
        return ()
    return tuple(sorted({evse_id for c in membership for evse_id in c.evse_ids}))


def permitted_evse_ids(holder: Holder) -> tuple[int, ...]:
    """Return the EVSEs that a holder's memberships name, empty where one names none."""
    return _evse_ids([c for c in holder.credentials if grants_access(c)])


def _accepted_free() -> Authorization:
    return Authorization(status=AuthorizationStatus.ACCEPTED, reason=Reason.FREE_CHARGING)


def _refusal(status: AuthorizationStatus, reason: Reason) -> Authorization:
    return Authorization(status=status, reason=reason)


def _refused(attempt: Attempt, status: AuthorizationStatus, reason: Reason) -> Authorization:
    return Authorization(
        status=status,
        reason=reason,
        holder_did=attempt.record.did,
        assurance=attempt.record.assurance,
    )


_MESSAGES: Final[Mapping[str, str]] = {
    Reason.TOKEN_UNKNOWN: "This card is not known here",
    Reason.TOKEN_BLOCKED: "This card is blocked",
    Reason.TOKEN_LOST: "This card is blocked",
    Reason.TOKEN_SUSPENDED: "This card is suspended",
    Reason.TOKEN_EXPIRED: "This card has expired",
    Reason.TOKEN_NOT_YET: "This card is not valid yet",
    Reason.SESSION_USED: "This start was used already",
    Reason.SESSION_WRONG_CONNECTOR: "This start is for another connector",
    Reason.HOLDER_DISABLED: "Charging is disabled for you; ask the operator",
    Reason.CREDENTIAL_MISSING: "No right to charge here is on record",
    Reason.CREDENTIAL_REVOKED: "Your right to charge was revoked",
    Reason.CREDENTIAL_SUSPENDED: "Your right to charge is suspended",
    Reason.CREDENTIAL_EXPIRED: "Your right to charge has expired",
    Reason.CREDENTIAL_NOT_YET: "Your right to charge has not begun",
    Reason.SITE_REFUSED: "You may not charge at this site",
    Reason.EVSE_REFUSED: "You may not charge at this charger",
    Reason.TIME_REFUSED: "You may not charge at this time",
    Reason.ALLOWANCE_USED: "Your energy allowance is used up",
    Reason.CONCURRENT: "You are charging elsewhere already",
    Reason.CERTIFICATE_REFUSED: "The contract of your vehicle could not be verified",
    Reason.MASTER_STARTS_NOTHING: "This card only stops charging",
}


def message_of(reason: str) -> str:
    """Return what a station may show for a refusal with `reason`, "" for nothing."""
    return _MESSAGES.get(reason, "")
