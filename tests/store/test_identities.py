"""Holders, tokens, credentials, vehicles; API tokens, decisions, kept answers."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from csms.core.errors import NotFound
from csms.core.model import (
    Assurance,
    AuthorizationStatus,
    Credential,
    Holder,
    TokenRecord,
    Trip,
    Vehicle,
)
from csms.store import access, allowances, identities, sessions, trips
from csms.store.access import Decision, KeptResponse
from csms.store.database import Store
from csms.store.statements import Tx
from tests.store.values import NOON, a_session, later

DRIVER = "did:key:z6MkExample"


def a_holder(**more: object) -> Holder:
    return Holder(**{"did": DRIVER, "name": "Driver One", **more})


def a_token(**more: object) -> TokenRecord:
    return TokenRecord(**{"value": "04A1B2C3", "kind": "ISO14443", "did": DRIVER, **more})


def a_credential(credential_id: str = "c1", **more: object) -> Credential:
    return Credential(
        **{
            "credential_id": credential_id,
            "kind": "fleet",
            "issuer": "did:web:fleet.example",
            "subject": DRIVER,
            **more,
        }
    )


# --- holders -------------------------------------------------------------------------------------


async def test_a_holder_comes_back_with_the_credentials_about_it(store: Store) -> None:
    credential = a_credential(
        sites=("depot", "*"),
        evse_ids=(1, 2),
        hours=((360, 1080), (0, 60)),
        allowance_kwh=50.0,
        valid_until=later(60),
        is_verified=True,
    )
    holder = a_holder(allowed_sites=("*",), max_price_per_kwh=0.3, carbon_conscious=True)

    def change(tx: Tx) -> None:
        identities.upsert_holder(tx, replace(holder, name="before"))
        identities.upsert_holder(tx, holder)
        identities.upsert_credential(tx, credential)
        identities.upsert_credential(tx, a_credential("c2", subject="did:example:other"))

    await store.write(change)
    expected = replace(holder, credentials=(credential,))
    assert await store.read(lambda tx: identities.get_holder(tx, DRIVER)) == expected
    assert await store.read(identities.list_holders) == [expected]


async def test_a_did_counts_by_case_and_is_found_folded_as_well(store: Store) -> None:
    await store.write(lambda tx: identities.upsert_holder(tx, a_holder()))
    folded = DRIVER.upper()
    assert await store.read(lambda tx: identities.holder_of_did(tx, folded)) is None
    found = await store.read(lambda tx: identities.holder_of_folded_did(tx, folded))
    assert found == a_holder()
    with pytest.raises(NotFound):
        await store.read(lambda tx: identities.get_holder(tx, folded))


async def test_two_dids_may_not_differ_in_case_only(store: Store) -> None:
    await store.write(lambda tx: identities.upsert_holder(tx, a_holder()))
    with pytest.raises(Exception, match=r"(?i)unique"):
        await store.write(
            lambda tx: identities.upsert_holder(tx, a_holder(did=DRIVER.replace("z6Mk", "Z6mK")))
        )


async def test_letters_beyond_ascii_are_not_folded(store: Store) -> None:
    assert identities.fold_did("did:x:ÄBC") == "did:x:Äbc"


async def test_an_erased_holder_leaves_energy_but_no_trace(store: Store) -> None:
    def change(tx: Tx) -> None:
        identities.upsert_holder(tx, a_holder())
        identities.upsert_token(tx, a_token())
        identities.upsert_credential(tx, a_credential())
        allowances.count(tx, 1, a_credential().credential_id, 5.0)
        identities.upsert_vehicle(tx, Vehicle(vehicle_id="v1", owner_did=DRIVER))
        trips.upsert_trip(tx, Trip(trip_id="t1", holder_did=DRIVER, departs_at=NOON))
        sessions.open_session(tx, a_session(holder_did=DRIVER, energy_wh=5000.0))

    await store.write(change)
    await store.write(lambda tx: identities.delete_holder(tx, DRIVER))

    def look(tx: Tx) -> None:
        assert identities.holder_of_did(tx, DRIVER) is None
        assert identities.list_tokens(tx) == []
        assert identities.list_credentials(tx) == []
        assert allowances.used(tx, 1) is None
        assert trips.list_trips(tx) == []
        assert identities.get_vehicle(tx, "v1").owner_did == ""
        session = sessions.by_transaction(tx, "CS1", "tx-s1")
        assert session is not None
        assert (session.holder_did, session.energy_wh) == ("", 5000.0)

    await store.read(look)
    await store.write(look)
    with pytest.raises(NotFound):
        await store.write(lambda tx: identities.delete_holder(tx, DRIVER))


# --- tokens --------------------------------------------------------------------------------------


async def test_a_token_is_found_by_kind_and_value(store: Store) -> None:
    token = a_token(assurance=Assurance.A1, valid_from=NOON, station_id="CS1", evse_id=2)

    def change(tx: Tx) -> None:
        identities.upsert_token(tx, replace(token, state="blocked"))
        identities.upsert_token(tx, token)

    await store.write(change)
    found = await store.read(lambda tx: identities.find_token(tx, "ISO14443", "04A1B2C3"))
    assert found == token
    assert await store.read(lambda tx: identities.find_token(tx, "eMAID", "04A1B2C3")) is None
    assert await store.read(lambda tx: identities.tokens_of(tx, DRIVER)) == [token]


async def test_without_a_kind_only_an_unambiguous_value_is_found(store: Store) -> None:
    await store.write(lambda tx: identities.upsert_token(tx, a_token()))

    async def find(value: str) -> TokenRecord | None:
        return await store.read(lambda tx: identities.find_token_any_kind(tx, value))

    assert await find("04A1B2C3") == a_token()
    assert await find("") is None
    await store.write(
        lambda tx: identities.upsert_token(tx, a_token(kind="MacAddress", did="did:x:y"))
    )
    assert await find("04A1B2C3") is None


async def test_a_token_changes_state_and_is_deleted(store: Store) -> None:
    await store.write(lambda tx: identities.upsert_token(tx, a_token()))
    await store.write(lambda tx: identities.set_token_state(tx, "ISO14443", "04A1B2C3", "lost"))
    (token,) = await store.read(identities.list_tokens)
    assert token.state == "lost"
    await store.write(lambda tx: identities.delete_token(tx, "ISO14443", "04A1B2C3"))
    for gone in (
        lambda tx: identities.delete_token(tx, "ISO14443", "04A1B2C3"),
        lambda tx: identities.set_token_state(tx, "ISO14443", "04A1B2C3", "active"),
    ):
        with pytest.raises(NotFound, match="ISO14443"):
            await store.write(gone)


async def test_a_session_token_is_used_by_one_session(store: Store) -> None:
    await store.write(lambda tx: identities.upsert_token(tx, a_token(kind="session")))

    async def consume(session_id: str) -> bool:
        return await store.write(
            lambda tx: identities.consume_token(tx, "session", "04A1B2C3", session_id)
        )

    assert [await consume(s) for s in ("s1", "s1", "s2")] == [True, True, False]


# --- credentials, vehicles -----------------------------------------------------------------------


async def test_a_credential_is_revoked_used_and_deleted(store: Store) -> None:
    def change(tx: Tx) -> None:
        identities.upsert_credential(tx, a_credential(allowance_kwh=10.0))
        identities.set_credential_status(tx, "c1", "revoked")
        allowances.count(tx, 7, "c1", 2.5)
        allowances.count(tx, 8, "c1", 1.0)
        # The station corrected what the first stay took.
        allowances.count(tx, 7, "c1", 2.0)

    await store.write(change)
    (found,) = await store.read(lambda tx: identities.credentials_of(tx, DRIVER))
    assert (found.status, found.used_kwh) == ("revoked", 3.0)
    await store.write(lambda tx: identities.upsert_credential(tx, a_credential()))
    again = await store.read(lambda tx: identities.get_credential(tx, "c1"))
    assert (again.status, again.used_kwh) == ("valid", 3.0)
    await store.write(lambda tx: identities.delete_credential(tx, "c1"))
    assert await store.read(lambda tx: allowances.used(tx, 7)) == ("", 2.0)
    for gone in (
        lambda tx: identities.delete_credential(tx, "c1"),
        lambda tx: identities.get_credential(tx, "c1"),
        lambda tx: identities.set_credential_status(tx, "c1", "valid"),
    ):
        with pytest.raises(NotFound):
            await store.write(gone)


async def test_a_vehicle_is_stored_listed_and_deleted(store: Store) -> None:
    one = Vehicle(vehicle_id="v1", owner_did=DRIVER, soc=0.3, soc_at=NOON, soc_source="declared")

    def change(tx: Tx) -> None:
        identities.upsert_vehicle(tx, one)
        identities.upsert_vehicle(tx, Vehicle(vehicle_id="v2"))

    await store.write(change)
    assert await store.read(lambda tx: identities.get_vehicle(tx, "v1")) == one
    assert await store.read(lambda tx: identities.list_vehicles(tx, owner_did=DRIVER)) == [one]
    assert len(await store.read(identities.list_vehicles)) == 2
    await store.write(lambda tx: identities.delete_vehicle(tx, "v1"))
    assert await store.read(lambda tx: identities.find_vehicle(tx, "v1")) is None
    with pytest.raises(NotFound):
        await store.read(lambda tx: identities.get_vehicle(tx, "v1"))
    with pytest.raises(NotFound):
        await store.write(lambda tx: identities.delete_vehicle(tx, "v1"))


async def test_an_older_state_of_charge_does_not_replace_a_newer_one(store: Store) -> None:
    await store.write(lambda tx: identities.upsert_vehicle(tx, Vehicle(vehicle_id="v1")))

    async def put(soc: float, seconds: float) -> bool:
        return await store.write(
            lambda tx: identities.set_soc(tx, "v1", soc, at=later(seconds), source="station")
        )

    assert [await put(0.5, 10), await put(0.4, 5), await put(0.6, 10)] == [True, False, True]
    found = await store.read(lambda tx: identities.get_vehicle(tx, "v1"))
    assert (found.soc, found.soc_at, found.soc_source) == (0.6, later(10), "station")
    assert not await store.write(
        lambda tx: identities.set_soc(tx, "v9", 0.1, at=NOON, source="station")
    )


# --- API access ----------------------------------------------------------------------------------


async def test_an_api_token_works_until_it_is_revoked(store: Store) -> None:
    token_id = await store.write(
        lambda tx: access.add_api_token(
            tx, hash_="h" * 64, prefix="tasco_ab", role="viewer", label="wall", at=NOON
        )
    )
    await store.write(lambda tx: access.note_api_token_use(tx, token_id, later(5)))
    found = await store.read(lambda tx: access.find_api_token(tx, "h" * 64))
    assert found is not None
    assert (found.role, found.last_used_at, found.revoked_at) == ("viewer", later(5), None)
    assert await store.read(lambda tx: access.find_api_token(tx, "x" * 64)) is None
    await store.write(lambda tx: access.revoke_api_token(tx, token_id, later(9)))
    assert await store.read(lambda tx: access.find_api_token(tx, "h" * 64)) is None
    (listed,) = await store.read(access.list_api_tokens)
    assert listed.revoked_at == later(9)
    with pytest.raises(NotFound):
        await store.write(lambda tx: access.revoke_api_token(tx, token_id, later(10)))


async def test_two_api_tokens_cannot_share_a_secret(store: Store) -> None:
    def add(tx: Tx) -> int:
        return access.add_api_token(tx, hash_="h", prefix="p", role="r", label="l", at=NOON)

    await store.write(add)
    with pytest.raises(Exception, match=r"(?i)unique"):
        await store.write(add)


async def test_decisions_are_logged_and_forgotten_after_30_days(store: Store) -> None:
    old = Decision(
        at=NOON,
        station_id="CS1",
        token_hint="04..C3",
        status=AuthorizationStatus.INVALID,
        reason="unknown token",
    )
    new = replace(
        old,
        at=later(60),
        holder_did=DRIVER,
        status=AuthorizationStatus.ACCEPTED,
        reason="ok",
        assurance=Assurance.A2,
        priority=3,
    )

    def change(tx: Tx) -> None:
        access.add_decision(tx, old)
        access.add_decision(tx, new)

    await store.write(change)
    page = await store.read(lambda tx: access.list_decisions(tx, station_id="CS1"))
    assert page.items == (new, old)
    refused = await store.read(
        lambda tx: access.list_decisions(tx, status=AuthorizationStatus.INVALID)
    )
    assert refused.items == (old,)
    now = NOON + timedelta(days=30, seconds=1)
    assert await store.write(lambda tx: access.purge_decisions(tx, now=now)) == 1
    assert (await store.read(access.list_decisions)).items == (new,)


async def test_the_first_answer_to_a_key_stays(store: Store) -> None:
    first = KeptResponse(request_hash="a", status_code=201, response="{}", at=NOON)

    async def keep(response: KeptResponse) -> bool:
        return await store.write(lambda tx: access.keep_response(tx, "caller key", response))

    assert await keep(first)
    assert not await keep(replace(first, request_hash="b"))
    assert await store.read(lambda tx: access.find_response(tx, "caller key")) == first
    assert await store.read(lambda tx: access.find_response(tx, "other")) is None
    assert await store.write(lambda tx: access.purge_responses(tx, before=later(1))) == 1
    assert await store.read(lambda tx: access.find_response(tx, "caller key")) is None


async def test_each_change_of_who_may_charge_is_counted_and_a_used_token_is_not(
    store: Store,
) -> None:
    holder, token, credential = a_holder(), a_token(), a_credential()
    steps: list[Callable[[Tx], object]] = [
        lambda tx: identities.upsert_holder(tx, holder),
        lambda tx: identities.upsert_token(tx, token),
        lambda tx: identities.upsert_credential(tx, credential),
        lambda tx: identities.set_token_state(tx, token.kind, token.value, "blocked"),
        lambda tx: identities.set_credential_status(tx, credential.credential_id, "revoked"),
        lambda tx: identities.delete_token(tx, token.kind, token.value),
        lambda tx: identities.delete_credential(tx, credential.credential_id),
        lambda tx: identities.delete_holder(tx, holder.did),
    ]
    assert await store.read(identities.changes) == 0
    for done, step in enumerate(steps, start=1):
        await store.write(step)
        assert await store.read(identities.changes) == done
    await store.write(lambda tx: identities.upsert_token(tx, token))
    before = await store.read(identities.changes)
    await store.write(lambda tx: identities.consume_token(tx, token.kind, token.value, "s1"))
    assert await store.read(identities.changes) == before
