"""What operators enter about holders, and what stays use of it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from csms.core.errors import InvalidInput, NotFound
from csms.core.model import (
    AccessPolicy,
    AuthorizationStatus,
    Credential,
    Holder,
    Session,
    SessionState,
)
from csms.service.claims import AllowanceBook, ClaimDesk
from csms.store import identities, journal, sessions
from csms.store.database import Store
from csms.store.statements import Tx
from tests.service.field import NOW, HandClock
from tests.store.values import a_session, add_station

DRIVER = "did:denso:driver:one"
PREPAID = Credential(
    credential_id="https://fleet.example/claims/1",
    kind="EmployeeCredential",
    issuer="fleet",
    subject=DRIVER,
    sites=("depot",),
    allowance_kwh=10.0,
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(f"sqlite:///{tmp_path / 'c.sqlite3'}")

    def start(tx: Tx) -> None:
        add_station(tx)
        identities.upsert_holder(tx, Holder(did=DRIVER, allowed_sites=("depot",)))

    await opened.write(start)
    yield opened
    await opened.close()


@pytest.fixture
def desk(store: Store) -> ClaimDesk:
    return ClaimDesk(store=store, clock=HandClock(NOW))


def book(store: Store, policy: AccessPolicy | None = None, *, later_s: float = 0) -> AllowanceBook:
    return AllowanceBook(
        store=store,
        clock=HandClock(NOW + timedelta(seconds=later_s)),
        policies={} if policy is None else {"depot": policy},
    )


async def stayed(store: Store, session_id: str = "s1", *, kwh: float, **more: object) -> Session:
    """Keep a stay of `kwh` that began a minute after NOW and is over an hour later."""
    begun = NOW + timedelta(minutes=1)
    values = {
        "holder_did": DRIVER,
        "energy_wh": kwh * 1000.0,
        "status": AuthorizationStatus.ACCEPTED,
        "state": SessionState.ENDED,
        "started_at": begun,
        "ended_at": begun + timedelta(hours=1),
    }
    session = a_session(session_id, **{**values, **more})
    return await store.write(lambda tx: sessions.open_session(tx, session))


async def used_kwh(store: Store, claim: Credential = PREPAID) -> float:
    found = await store.read(lambda tx: identities.get_credential(tx, claim.credential_id))
    return found.used_kwh


async def test_what_a_stay_took_counts_once_on_its_holders_allowance(
    store: Store, desk: ClaimDesk
) -> None:
    await desk.put(PREPAID, by="t")
    before = await store.read(identities.changes)
    await stayed(store, kwh=4.0)
    assert await book(store).count() == 1
    assert await book(store).count() == 0
    assert await used_kwh(store) == pytest.approx(4.0)
    # Local lists are made anew: the last kWh may be gone.
    assert await store.read(identities.changes) == before + 1


async def test_a_stay_that_goes_on_counts_when_it_is_over(store: Store, desk: ClaimDesk) -> None:
    await desk.put(PREPAID, by="t")
    session = await stayed(store, kwh=4.0, state=SessionState.OPEN, ended_at=None)
    assert await book(store).count() == 0
    over = replace(session, state=SessionState.ENDED, ended_at=NOW, energy_wh=6000.0)
    await store.write(lambda tx: sessions.save(tx, over))
    assert await book(store).count() == 1
    assert await used_kwh(store) == pytest.approx(6.0)


async def test_a_corrected_end_corrects_the_count(store: Store, desk: ClaimDesk) -> None:
    await desk.put(PREPAID, by="t")
    session = await stayed(store, kwh=4.0)
    await book(store).count()
    await store.write(lambda tx: sessions.save(tx, replace(session, energy_wh=7500.0)))
    assert await book(store).count() == 1
    assert await used_kwh(store) == pytest.approx(7.5)


async def test_stays_from_before_an_allowance_do_not_use_it(store: Store, desk: ClaimDesk) -> None:
    await stayed(store, kwh=4.0, started_at=NOW - timedelta(hours=2), ended_at=NOW)
    entered = await desk.put(PREPAID, by="t")
    assert entered.valid_from == NOW
    await book(store).count()
    assert await used_kwh(store) == 0.0


async def test_an_allowance_is_spared_while_another_claim_suffices(
    store: Store, desk: ClaimDesk
) -> None:
    await desk.put(PREPAID, by="t")
    await desk.put(replace(PREPAID, credential_id="member", allowance_kwh=None), by="t")
    await stayed(store, kwh=4.0)
    await book(store).count()
    assert await used_kwh(store) == 0.0


async def test_of_two_allowances_the_one_with_something_left_pays(
    store: Store, desk: ClaimDesk
) -> None:
    second = replace(PREPAID, credential_id="https://fleet.example/claims/2")
    for claim in (PREPAID, second):
        await desk.put(claim, by="t")
    for number, kwh in enumerate((11.0, 3.0)):
        end = NOW + timedelta(hours=2 + number)
        await stayed(store, f"s{number}", kwh=kwh, ended_at=end)
    assert await book(store, later_s=7200).count() == 2
    assert (await used_kwh(store), await used_kwh(store, second)) == (11.0, 3.0)


@pytest.mark.parametrize(
    ("policy", "more"),
    [
        (AccessPolicy(free_charging=True), {}),
        (AccessPolicy(trusted_issuers=("another",)), {}),
        (None, {"status": AuthorizationStatus.BLOCKED}),
    ],
    ids=["free", "untrusted", "refused"],
)
async def test_a_stay_that_owes_the_claim_nothing_uses_none_of_it(
    store: Store, desk: ClaimDesk, policy: AccessPolicy | None, more: dict[str, object]
) -> None:
    await desk.put(PREPAID, by="t")
    await stayed(store, kwh=4.0, **more)
    assert await book(store, policy).count() == 0
    assert await used_kwh(store) == 0.0


async def test_a_claim_revoked_meanwhile_pays_for_what_it_began(
    store: Store, desk: ClaimDesk
) -> None:
    await desk.put(PREPAID, by="t")
    await stayed(store, kwh=4.0)
    await desk.set_status(PREPAID.credential_id, "revoked", by="t")
    await book(store).count()
    assert await used_kwh(store) == pytest.approx(4.0)


async def test_a_new_claim_does_not_pay_for_what_a_removed_one_paid(
    store: Store, desk: ClaimDesk
) -> None:
    await desk.put(PREPAID, by="t")
    await stayed(store, kwh=4.0)
    await book(store).count()
    await desk.remove(PREPAID.credential_id, by="t")
    second = replace(PREPAID, credential_id="second", valid_from=NOW)
    await desk.put(second, by="t")
    assert await book(store).count() == 0
    assert await used_kwh(store, second) == 0.0


async def test_a_claim_entered_again_keeps_its_beginning_and_its_count(
    store: Store, desk: ClaimDesk
) -> None:
    await desk.put(PREPAID, by="t")
    await stayed(store, kwh=4.0)
    await book(store).count()
    late = ClaimDesk(store=store, clock=HandClock(NOW + timedelta(days=1)))
    again = await late.put(replace(PREPAID, allowance_kwh=20.0), by="t")
    assert (again.valid_from, again.allowance_kwh, again.used_kwh) == (NOW, 20.0, 4.0)


async def test_changes_are_events_that_name_nobody(store: Store, desk: ClaimDesk) -> None:
    await desk.put(PREPAID, by="Ann")
    await desk.set_status(PREPAID.credential_id, "suspended", by="Ann")
    await desk.remove(PREPAID.credential_id, by="Ann")
    page = await store.read(lambda tx: journal.list_events(tx))
    events = [stored.event for stored in reversed(page.items)]
    assert [e.kind for e in events] == ["claim entered", "claim suspended", "claim removed"]
    assert all(e.detail["by"] == "Ann" for e in events)
    assert not any(word in str(e.detail) for e in events for word in (DRIVER, "fleet.example"))


async def test_what_cannot_be_is_refused(store: Store, desk: ClaimDesk) -> None:
    with pytest.raises(NotFound, match="holder"):
        await desk.put(replace(PREPAID, subject="did:denso:driver:none"), by="t")
    with pytest.raises(NotFound, match="credential"):
        await desk.set_status("none", "valid", by="t")
    with pytest.raises(NotFound, match="credential"):
        await desk.remove("none", by="t")
    with pytest.raises(InvalidInput, match="valid, suspended, revoked"):
        await desk.set_status(PREPAID.credential_id, "lost", by="t")
    await desk.put(PREPAID, by="t")
    other = Holder(did="did:denso:driver:two")
    await store.write(lambda tx: identities.upsert_holder(tx, other))
    with pytest.raises(InvalidInput, match="another holder"):
        await desk.put(replace(PREPAID, subject=other.did), by="t")
