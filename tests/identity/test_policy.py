"""The decision: who may charge where and when, with which priority and for how long."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csms.core.model import (
    AccessPolicy,
    Assurance,
    Authorization,
    AuthorizationStatus,
    Credential,
    Holder,
    IdToken,
    Site,
    TokenRecord,
)
from csms.identity import alias
from csms.identity.alias import TokenKind, normalise
from csms.identity.credentials import Reason
from csms.identity.policy import UnknownTokenLimiter, decide, may_stop, rate_limited

A = AuthorizationStatus
NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
DAY = timedelta(days=1)
KEY = bytes(32)
S1 = Site(site_id="s1", limit_kw=44.0, time_zone="Europe/Copenhagen")
S2 = Site(site_id="s2", limit_kw=44.0)
DID = "did:denso:driver:abc123"
CARD = TokenRecord(value="04A1B2C3D4E5F6", kind="rfid", did=DID)
FLEET = Credential(
    credential_id="c-1",
    kind="FleetDriverCredential",
    issuer="did:web:fleet.example",
    subject=DID,
    valid_from=NOW - 30 * DAY,
    valid_until=NOW + 1 * DAY,
    sites=("s1",),
    is_verified=True,
)
DRIVER = Holder(did=DID, allowed_sites=("*",), credentials=(FLEET,))


def ask(
    record: TokenRecord | None = CARD,
    holder: Holder | None = DRIVER,
    *,
    token: IdToken | None = None,
    **changed: Any,
) -> Authorization:
    usual: dict[str, Any] = {
        "station_id": "c1",
        "site": S1,
        "evse_id": 1,
        "open_sessions": 0,
        "policy": AccessPolicy(),
        "now": NOW,
        "is_start": False,
    }
    value = "" if record is None else record.value
    presented = token or IdToken(value=value or "04FFFFFF")
    return decide(presented, record, holder, **(usual | changed))


def driver(**changed: Any) -> Holder:
    return replace(DRIVER, credentials=(replace(FLEET, **changed),))


def outcome(decision: Authorization) -> tuple[AuthorizationStatus, str]:
    return decision.status, decision.reason


def test_a_drivers_card_is_accepted_until_the_credential_ends_and_names_the_group() -> None:
    decision = ask(group="ZG000000000000000000")
    assert outcome(decision) == (A.ACCEPTED, Reason.ACCEPTED)
    assert decision.holder_did == DID
    assert decision.expires_at == FLEET.valid_until
    assert decision.group == "ZG000000000000000000"
    assert decision.evse_ids == ()


def test_an_acceptance_lasts_no_longer_than_the_offline_horizon() -> None:
    decision = ask(holder=driver(valid_until=NOW + 100 * DAY))
    assert decision.expires_at == NOW + timedelta(hours=72)
    short = AccessPolicy(offline_horizon_s=600)
    assert ask(policy=short).expires_at == NOW + timedelta(minutes=10)


def lookup(token: IdToken, records: list[TokenRecord], **how: bool) -> TokenRecord | None:
    found = {(r.kind, r.value): r for r in records}
    return next((found[pair] for pair in normalise(token, **how) if pair in found), None)


@pytest.mark.parametrize(
    ("value", "kind", "backwards"),
    [
        ("04A1B2C3D4E5F6", "", False),
        ("04a1b2c3d4e5f6", "", False),
        ("04:A1:B2:C3:D4:E5:F6", "", False),
        ("04a1b2c3d4e5f6", "ISO14443", False),
        ("F6E5D4C3B2A104", "", True),
    ],
)
def test_the_same_card_leads_to_the_same_decision_in_every_spelling(
    value: str, kind: str, backwards: bool
) -> None:
    token = IdToken(value=value, kind=kind)
    record = lookup(token, [CARD], reversed_bytes=backwards)
    assert ask(record, token=token) == ask()


@pytest.mark.parametrize("is_start", [False, True])
def test_an_unknown_token_is_unknown(is_start: bool) -> None:
    assert outcome(ask(None, None, is_start=is_start)) == (A.UNKNOWN, Reason.TOKEN_UNKNOWN)


def test_a_token_of_an_erased_holder_is_unknown() -> None:
    assert outcome(ask(CARD, None)) == (A.UNKNOWN, Reason.TOKEN_UNKNOWN)


@pytest.mark.parametrize("kind", ["NoAuthorization", "Central", ""])
def test_an_empty_token_is_invalid_and_never_matches_an_empty_alias(kind: str) -> None:
    empty = replace(CARD, value="")
    token = IdToken(value="", kind=kind)
    assert lookup(token, [empty]) is None
    assert outcome(ask(empty, DRIVER, token=token)) == (A.INVALID, Reason.TOKEN_UNKNOWN)


@pytest.mark.parametrize(
    "changed",
    [{"policy": AccessPolicy(free_charging=True)}, {"site": replace(S1, free_charging=True)}],
)
@pytest.mark.parametrize("kind", ["NoAuthorization", "ISO14443"])
def test_a_free_site_takes_anybody(changed: dict[str, Any], kind: str) -> None:
    token = IdToken(value="" if kind == "NoAuthorization" else "04FFFFFF", kind=kind)
    decision = ask(None, None, token=token, is_start=True, **changed)
    assert outcome(decision) == (A.ACCEPTED, Reason.FREE_CHARGING)
    assert decision.holder_did == ""


def test_a_free_site_takes_a_known_holder_of_another_site_but_no_blocked_one() -> None:
    free = replace(S2, free_charging=True)
    assert ask(site=free).is_accepted
    assert ask(replace(CARD, state="blocked"), site=free).status is A.BLOCKED
    assert ask(holder=replace(DRIVER, state="disabled"), site=free).status is A.BLOCKED


def test_a_did_upper_cased_by_the_station_is_the_same_driver() -> None:
    record = TokenRecord(value=DID, kind="did", did=DID)
    for value in (DID, DID.upper()):
        token = IdToken(value=value, kind="Central")
        assert lookup(token, [record]) == record
        assert ask(record, token=token).is_accepted


def test_only_the_tenants_own_fingerprints_of_current_epochs_are_known() -> None:
    records = [
        TokenRecord(
            value=alias.fingerprint(DID, key=KEY, epoch=epoch),
            kind=TokenKind.FINGERPRINT,
            did=DID,
            valid_until=until,
            key_epoch=epoch,
        )
        for epoch, until in ((0, NOW + DAY), (1, None))
    ]
    for record in records:
        token = IdToken(value=record.value.lower())
        assert ask(lookup(token, records), token=token).is_accepted
    strange = IdToken(value=alias.fingerprint(DID, key=b"\1" * 32, epoch=1))
    assert lookup(strange, records) is None
    assert outcome(ask(records[0], now=NOW + DAY)) == (A.EXPIRED, Reason.TOKEN_EXPIRED)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("suspended", Reason.TOKEN_SUSPENDED),
        ("blocked", Reason.TOKEN_BLOCKED),
        ("lost", Reason.TOKEN_LOST),
        ("a state of tomorrow", Reason.TOKEN_BLOCKED),
    ],
)
def test_a_token_that_is_not_active_is_blocked(state: str, reason: Reason) -> None:
    assert outcome(ask(replace(CARD, state=state))) == (A.BLOCKED, reason)


def test_a_token_has_its_own_days() -> None:
    late = replace(CARD, valid_from=NOW + DAY)
    assert outcome(ask(late)) == (A.NOT_AT_THIS_TIME, Reason.TOKEN_NOT_YET)
    ending = replace(CARD, valid_until=NOW + timedelta(hours=1))
    assert ask(ending).expires_at == NOW + timedelta(hours=1)


@pytest.mark.parametrize("is_start", [False, True])
@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"status": "revoked"}, (A.BLOCKED, Reason.CREDENTIAL_REVOKED)),
        ({"status": "suspended"}, (A.BLOCKED, Reason.CREDENTIAL_SUSPENDED)),
        ({"status": "odd"}, (A.BLOCKED, Reason.CREDENTIAL_REVOKED)),
        ({"status": "valid"}, (A.ACCEPTED, Reason.ACCEPTED)),
        ({"valid_until": NOW}, (A.EXPIRED, Reason.CREDENTIAL_EXPIRED)),
        ({"valid_from": NOW + DAY}, (A.NOT_AT_THIS_TIME, Reason.CREDENTIAL_NOT_YET)),
        ({"sites": ()}, (A.NOT_AT_THIS_LOCATION, Reason.SITE_REFUSED)),
        ({"sites": ("s2",)}, (A.NOT_AT_THIS_LOCATION, Reason.SITE_REFUSED)),
        ({"sites": ("*",)}, (A.ACCEPTED, Reason.ACCEPTED)),
        ({"hours": ((0, 600),)}, (A.NOT_AT_THIS_TIME, Reason.TIME_REFUSED)),
        ({"hours": ((600, 660),)}, (A.ACCEPTED, Reason.ACCEPTED)),
        ({"hours": ((1320, 360),)}, (A.NOT_AT_THIS_TIME, Reason.TIME_REFUSED)),
        ({"hours": ((1320, 660),)}, (A.ACCEPTED, Reason.ACCEPTED)),
        ({"allowance_kwh": 50.0, "used_kwh": 50.0}, (A.NO_CREDIT, Reason.ALLOWANCE_USED)),
        ({"allowance_kwh": 50.0, "used_kwh": 49.9}, (A.ACCEPTED, Reason.ACCEPTED)),
    ],
)
def test_a_credential_is_judged_alike_on_authorize_and_start(
    changed: dict[str, Any], expected: tuple[AuthorizationStatus, str], is_start: bool
) -> None:
    assert outcome(ask(holder=driver(**changed), is_start=is_start)) == expected


def test_a_driver_of_one_site_is_refused_at_another() -> None:
    decision = ask(site=S2, station_id="c9")
    assert outcome(decision) == (A.NOT_AT_THIS_LOCATION, Reason.SITE_REFUSED)


@pytest.mark.parametrize("credentials", [(), (FLEET,)])
def test_a_holder_without_sites_is_refused_everywhere(credentials: tuple[Credential, ...]) -> None:
    holder = replace(DRIVER, allowed_sites=(), credentials=credentials)
    assert outcome(ask(holder=holder)) == (A.NOT_AT_THIS_LOCATION, Reason.SITE_REFUSED)


def test_hours_follow_the_clock_on_the_wall_through_the_change_to_summer_time() -> None:
    # 08:00 to 09:00 in Copenhagen is 07:00Z in winter and 06:00Z in summer.
    holder = driver(hours=((480, 540),), valid_until=None)
    for day, open_at, shut_at in ((28, 7, 6), (30, 6, 7)):
        opened = datetime(2026, 3, day, open_at, 30, tzinfo=UTC)
        assert ask(holder=holder, now=opened).is_accepted
        assert ask(holder=holder, now=opened.replace(hour=shut_at)).reason == Reason.TIME_REFUSED


def test_an_evse_restriction_is_announced_on_authorize_and_enforced_at_the_start() -> None:
    holder = driver(evse_ids=(2,))
    announced = ask(holder=holder, evse_id=None)
    assert announced.is_accepted
    assert announced.evse_ids == (2,)
    assert outcome(ask(holder=holder, evse_id=1, is_start=True)) == (
        A.NOT_ALLOWED_TYPE_EVSE,
        Reason.EVSE_REFUSED,
    )
    assert ask(holder=holder, evse_id=2, is_start=True).is_accepted


def test_a_second_session_is_refused_at_its_start_only() -> None:
    assert ask(open_sessions=1).is_accepted
    decision = ask(open_sessions=1, is_start=True)
    assert outcome(decision) == (A.CONCURRENT_TX, Reason.CONCURRENT)
    two = replace(DRIVER, max_open_sessions=2)
    assert ask(holder=two, open_sessions=1, is_start=True).is_accepted


def test_any_one_sufficient_credential_accepts() -> None:
    revoked = replace(FLEET, credential_id="c-2", status="revoked")
    holder = replace(DRIVER, credentials=(revoked, FLEET))
    assert ask(holder=holder).is_accepted


@given(st.permutations(["revoked", "expired", "elsewhere", "untrusted"]))
def test_the_most_useful_refusal_wins_in_any_order(order: list[str]) -> None:
    failing = {
        "revoked": replace(FLEET, status="revoked"),
        "expired": replace(FLEET, valid_until=NOW - DAY),
        "elsewhere": replace(FLEET, sites=("s2",)),
        "untrusted": replace(FLEET, issuer="did:web:stranger.example"),
    }
    policy = AccessPolicy(trusted_issuers=(FLEET.issuer,))
    expected = [A.BLOCKED, A.EXPIRED, A.NOT_AT_THIS_LOCATION, A.INVALID]
    for status, gone in zip(expected, ("", "revoked", "expired", "elsewhere"), strict=True):
        order = [name for name in order if name != gone]
        holder = replace(DRIVER, credentials=tuple(failing[name] for name in order))
        assert ask(holder=holder, policy=policy).status is status


def test_what_an_untrusted_issuer_says_grants_nothing() -> None:
    policy = AccessPolicy(trusted_issuers=("did:web:other.example",))
    assert outcome(ask(policy=policy)) == (A.INVALID, Reason.ISSUER_UNTRUSTED)


def test_a_site_may_demand_a_credential() -> None:
    bare = replace(DRIVER, credentials=())
    assert ask(holder=bare).is_accepted
    demanding = AccessPolicy(requires_credential=True)
    assert outcome(ask(holder=bare, policy=demanding)) == (A.INVALID, Reason.CREDENTIAL_MISSING)
    slot = replace(DRIVER, credentials=(replace(FLEET, kind="VehicleProfileCredential"),))
    assert ask(holder=slot, policy=demanding).reason == Reason.CREDENTIAL_MISSING


def test_a_plain_token_without_a_did_is_taken_unless_a_credential_is_demanded() -> None:
    plain = replace(CARD, did="")
    assert ask(plain, None).is_accepted
    assert ask(plain, None, policy=AccessPolicy(requires_credential=True)).status is A.INVALID


def test_a_site_may_demand_assurance() -> None:
    demanding = AccessPolicy(min_assurance=Assurance.A2)
    assert outcome(ask(policy=demanding)) == (A.INVALID, Reason.ASSURANCE_LOW)
    assert ask(replace(CARD, assurance=Assurance.A3), policy=demanding).is_accepted


def test_a_disabled_holder_is_blocked() -> None:
    disabled = replace(DRIVER, state="disabled")
    assert outcome(ask(holder=disabled)) == (A.BLOCKED, Reason.HOLDER_DISABLED)


SESSION = TokenRecord(
    value=alias.session_token(bytes(12)),
    kind="session",
    did=DID,
    assurance=Assurance.A2,
    station_id="c1",
    evse_id=1,
    valid_until=NOW + timedelta(minutes=10),
)


def test_a_session_token_is_accepted_once_at_its_station_and_connector() -> None:
    decision = ask(SESSION, is_start=True)
    assert decision.is_accepted
    assert decision.assurance is Assurance.A2
    assert decision.expires_at == SESSION.valid_until
    assert ask(SESSION, evse_id=None).is_accepted
    wrong = (A.INVALID, Reason.SESSION_WRONG_CONNECTOR)
    assert outcome(ask(SESSION, evse_id=2, is_start=True)) == wrong
    assert outcome(ask(SESSION, station_id="c2", is_start=True)) == wrong
    used = replace(SESSION, consumed_by="session-1")
    assert outcome(ask(used, is_start=True)) == (A.INVALID, Reason.SESSION_USED)
    assert ask(SESSION, now=NOW + timedelta(minutes=10)).status is A.EXPIRED


SLOT = replace(FLEET, credential_id="c-3", kind="PriorityChargingSlotCredential", priority=7)
PROVEN = replace(CARD, assurance=Assurance.A2)


def test_a_priority_needs_assurance_and_a_checked_signature() -> None:
    holder = replace(DRIVER, credentials=(FLEET, SLOT))
    assert ask(PROVEN, holder=holder).priority == 7
    bare = ask(CARD, holder=holder)
    assert (bare.status, bare.priority, bare.reason) == (A.ACCEPTED, 0, Reason.ASSURANCE_LOW)
    lowered = AccessPolicy(priority_min_assurance=Assurance.A0)
    assert ask(CARD, holder=holder, policy=lowered).priority == 7
    claimed = replace(DRIVER, credentials=(FLEET, replace(SLOT, is_verified=False)))
    assert ask(PROVEN, holder=claimed).priority == 0


def test_a_priority_slot_alone_opens_no_charger() -> None:
    holder = replace(DRIVER, credentials=(SLOT,))
    demanding = AccessPolicy(requires_credential=True)
    assert ask(PROVEN, holder=holder, policy=demanding).reason == Reason.CREDENTIAL_MISSING


@given(st.integers(-99, 99), st.integers(-99, 99), st.booleans(), st.sampled_from(Assurance))
def test_priorities_stay_in_range_and_unverified_claims_only_lower(
    entered: int, claimed: int, is_verified: bool, assurance: Assurance
) -> None:
    slot = replace(SLOT, priority=claimed, is_verified=is_verified)
    record = replace(CARD, assurance=assurance)
    holder = replace(DRIVER, priority=entered, credentials=(FLEET,))
    without = ask(record, holder=holder).priority
    priority = ask(record, holder=replace(holder, credentials=(FLEET, slot))).priority
    assert -9 <= priority <= 9
    if not is_verified:
        assert priority <= without
    if assurance < Assurance.A2:
        assert priority <= 0


def test_thirty_unknown_tokens_stop_the_look_ups_of_one_station_for_a_minute() -> None:
    limiter = UnknownTokenLimiter()
    looked_up = 0
    for number in range(30):
        at = NOW + timedelta(seconds=number)
        if not limiter.is_limited("c1", at):
            looked_up += 1
            limiter.unknown("c1", at)
    assert looked_up == 20
    assert not limiter.is_limited("c2", NOW + timedelta(seconds=29))
    assert limiter.is_limited("c1", NOW + timedelta(seconds=78))
    assert not limiter.is_limited("c1", NOW + timedelta(seconds=79))
    assert outcome(rate_limited()) == (A.UNKNOWN, Reason.RATE_LIMITED)


def test_slow_mistakes_never_stop_the_look_ups() -> None:
    limiter = UnknownTokenLimiter()
    for number in range(200):
        at = NOW + timedelta(seconds=3.2 * number)
        assert not limiter.is_limited("c1", at)
        limiter.unknown("c1", at)


COLLEAGUE = Holder(did="did:denso:driver:col", organisation="F", allowed_sites=("*",))
OTHER_CARD = TokenRecord(value="04B2", kind="rfid", did=COLLEAGUE.did)


def test_whoever_started_may_stop_whatever_was_revoked_since() -> None:
    revoked = driver(status="revoked")
    suspended = replace(CARD, state="suspended")
    assert not ask(suspended, revoked, is_start=True).is_accepted
    assert may_stop(suspended, revoked, started_by=CARD, starter=revoked)
    assert may_stop(replace(CARD, value="04C3"), revoked, started_by=CARD, starter=revoked)


@pytest.mark.parametrize(
    ("presented", "holder", "expected"),
    [
        (OTHER_CARD, COLLEAGUE, True),
        (replace(OTHER_CARD, state="blocked"), COLLEAGUE, False),
        (OTHER_CARD, replace(COLLEAGUE, state="disabled"), False),
        (OTHER_CARD, replace(COLLEAGUE, organisation="G"), False),
        (OTHER_CARD, None, False),
        (None, None, False),
    ],
)
def test_an_active_colleague_may_stop_and_nobody_else(
    presented: TokenRecord | None, holder: Holder | None, expected: bool
) -> None:
    starter = replace(DRIVER, organisation="F")
    assert may_stop(presented, holder, started_by=CARD, starter=starter) is expected
    lone = replace(DRIVER, organisation="")
    nobodys = None if holder is None else replace(holder, organisation="")
    assert not may_stop(presented, nobodys, started_by=CARD, starter=lone)


def test_a_plain_token_stops_its_own_session_and_no_other() -> None:
    plain, other = replace(CARD, did=""), replace(OTHER_CARD, did="")
    assert may_stop(plain, None, started_by=plain, starter=None)
    assert not may_stop(other, None, started_by=plain, starter=None)
    empty = replace(plain, value="")
    assert not may_stop(empty, None, started_by=empty, starter=None)


def test_the_trail_names_the_checks_passed() -> None:
    trail: list[str] = []
    ask(site=S2, trail=trail)
    assert trail == ["token known", "token active and bound here, holder active"]


@given(st.integers(0, 3), st.booleans(), st.integers(1, 4), st.sampled_from(["s1", "s2"]))
def test_what_a_start_accepts_authorize_accepts(
    open_sessions: int, is_limited: bool, evse_id: int, site_id: str
) -> None:
    holder = driver(evse_ids=(1, 2) if is_limited else ())
    site = {"s1": S1, "s2": S2}[site_id]
    started = ask(
        holder=holder, evse_id=evse_id, site=site, open_sessions=open_sessions, is_start=True
    )
    asked = ask(holder=holder, evse_id=None, site=site, open_sessions=open_sessions)
    assert asked.is_accepted or not started.is_accepted
    if started.is_accepted and asked.evse_ids:
        assert evse_id in asked.evse_ids
