"""Who may charge, in each version's own words (identity.md 7; the numbers are its cases)."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from csms.core.model import Credential, SessionState, TokenRecord
from csms.identity.alias import group_token
from csms.opening import tenant_keys
from csms.service.authorization import new_session_token
from csms.settings import IdentitySettings, Settings, SiteSettings
from csms.store import identities
from simulators.clock import iso, parse_iso
from simulators.link import CallRefused
from simulators.simulated import SimulatedStation
from tests.scenarios.world import VERSIONS, World, card_of, did_of, living, settings

SEED_DID = "did:denso:driver:abc123"
KEY, NEXT_KEY = "the key of the first epoch", "the key of the second epoch"


@dataclass(slots=True)
class Talker:
    """A station that says exactly what it is told to; `n` numbers what it says."""

    world: World
    station: SimulatedStation
    version: str
    n: int = field(default=0)

    @property
    def is_16(self) -> bool:
        return self.version == "1.6"

    def word(self, in_16: str, in_201: str) -> str:
        return in_16 if self.is_16 else in_201

    async def authorize(self, token: str, kind: str = "ISO14443") -> Mapping[str, Any]:
        """Return what Authorize says of a token."""
        if self.is_16:
            answer = await self.station.call("Authorize", {"idTag": token})
            return dict(answer["idTagInfo"])
        answer = await self.station.call("Authorize", {"idToken": {"idToken": token, "type": kind}})
        return dict(answer["idTokenInfo"])

    async def status(self, token: str, kind: str = "ISO14443") -> str:
        return str((await self.authorize(token, kind))["status"])

    def started(self, token: str, *, evse_id: int = 1, kind: str = "ISO14443") -> dict[str, Any]:
        """Return the message of a new start."""
        self.n += 1
        now = iso(self.world.clock.now() + timedelta(milliseconds=self.n))
        if self.is_16:
            return {"connectorId": evse_id, "idTag": token, "meterStart": 0, "timestamp": now}
        return {
            "eventType": "Started",
            "timestamp": now,
            "triggerReason": "Authorized",
            "seqNo": 0,
            "transactionInfo": {"transactionId": f"tx-{self.n}"},
            "evse": {"id": evse_id, "connectorId": 1},
            "idToken": {"idToken": token, "type": kind},
        }

    async def say_start(self, payload: Mapping[str, Any]) -> tuple[str, str]:
        """Say a start; return the decision and the transaction's id."""
        if self.is_16:
            answer = await self.station.call("StartTransaction", payload)
            return str(answer["idTagInfo"]["status"]), str(answer["transactionId"])
        answer = await self.station.call("TransactionEvent", payload)
        return (
            str(answer["idTokenInfo"]["status"]),
            str(payload["transactionInfo"]["transactionId"]),
        )

    async def start(
        self, token: str, *, evse_id: int = 1, kind: str = "ISO14443"
    ) -> tuple[str, str]:
        return await self.say_start(self.started(token, evse_id=evse_id, kind=kind))

    async def stop(self, transaction_id: str, token: str) -> Mapping[str, Any]:
        """End a transaction with a token; return the answer."""
        now = iso(self.world.clock.now() + timedelta(seconds=1))
        if self.is_16:
            return await self.station.call(
                "StopTransaction",
                {
                    "transactionId": int(transaction_id),
                    "idTag": token,
                    "meterStop": 100,
                    "timestamp": now,
                    "reason": "Local",
                },
            )
        return await self.station.call(
            "TransactionEvent",
            {
                "eventType": "Ended",
                "timestamp": now,
                "triggerReason": "StopAuthorized",
                "seqNo": 1,
                "transactionInfo": {"transactionId": transaction_id, "stoppedReason": "Local"},
                "idToken": {"idToken": token, "type": "ISO14443"},
            },
        )


@contextlib.asynccontextmanager
async def talking(
    version: str, url: str, given: Settings | None = None, *, register: bool = True, **extra: Any
) -> AsyncIterator[Talker]:
    """Yield a booted station c1 with two EVSEs at a site whose drivers can be enrolled."""
    async with living(given or settings(url)) as world:
        if register:
            await world.register("c1", evses=2, **extra)
        async with world.station("c1", version, evses=2) as station:
            await station.boot()
            yield Talker(world, station, version)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_01_02_a_card_is_accepted_however_its_uid_is_written(
    version: str, sqlite_url: str
) -> None:
    async with talking(version, sqlite_url) as c1:
        card = await c1.world.driver(1, organisation="fleet-f")
        for spelling in (card, card.lower(), ":".join(card[i : i + 2] for i in range(0, 14, 2))):
            # 20 characters is what an idTag holds: the separated form has 20.
            info = await c1.authorize(spelling)
            assert info["status"] == "Accepted", spelling
        ends = parse_iso(info[c1.word("expiryDate", "cacheExpiryDateTime")])
        assert ends <= c1.world.clock.now() + timedelta(hours=73)
        group = info["parentIdTag"] if c1.is_16 else info["groupIdToken"]["idToken"]
        assert group == group_token("fleet-f", key=c1.world.system.keys.key)


async def test_01_a_card_is_cached_no_longer_than_its_credential_lasts(
    version: str, sqlite_url: str
) -> None:
    async with talking(version, sqlite_url) as c1:
        until = (c1.world.clock.now() + timedelta(hours=5)).replace(microsecond=0)
        claim = Credential(
            credential_id="claim-1",
            kind="FleetDriver",
            issuer="did:web:fleet.example",
            subject=did_of(1),
            valid_until=until,
            sites=("main",),
        )
        card = await c1.world.driver(1, credentials=(claim,))
        info = await c1.authorize(card)
        assert info["status"] == "Accepted"
        assert parse_iso(info[c1.word("expiryDate", "cacheExpiryDateTime")]) <= until


async def test_03_a_reader_that_sends_bytes_in_reverse_is_understood(
    version: str, sqlite_url: str
) -> None:
    async with talking(version, sqlite_url, uid_byte_order_reversed=True) as c1:
        card = await c1.world.driver(1)
        assert await c1.status(bytes.fromhex(card)[::-1].hex()) == "Accepted"


async def test_04_an_unknown_card_is_refused(version: str, sqlite_url: str) -> None:
    async with talking(version, sqlite_url) as c1:
        assert await c1.status("DEADBEEF") == c1.word("Invalid", "Unknown")


@pytest.mark.parametrize("is_free", [False, True])
async def test_05_nobody_may_charge_only_where_anybody_may(is_free: bool, sqlite_url: str) -> None:
    given = settings(sqlite_url, site={"main": SiteSettings(limit_kw=50.0, free_charging=is_free)})
    async with talking("2.0.1", sqlite_url, given) as c1:
        expected = "Accepted" if is_free else "Invalid"
        assert await c1.status("", "NoAuthorization") == expected
        started = c1.started("", kind="NoAuthorization")
        assert (await c1.say_start(started))[0] == expected


async def test_06_a_token_too_long_for_its_version_is_the_only_error(
    version: str, sqlite_url: str
) -> None:
    async with talking(version, sqlite_url) as c1:
        longest = {"1.6": 20, "2.0.1": 36, "2.1": 255}[version]
        with pytest.raises(CallRefused) as refused:
            await c1.authorize("A" * (longest + 1))
        assert refused.value.code == "TypeConstraintViolation"
        assert await c1.status("A" * longest) == c1.word("Invalid", "Unknown")


async def test_07_08_a_did_and_its_name_stand_for_one_driver(version: str, sqlite_url: str) -> None:
    async with talking(version, sqlite_url) as c1:
        await c1.world.system.enrolment.put_holders(
            [replace(await _holder(c1.world, 1), did=SEED_DID)], by="test"
        )
        name = c1.world.system.keys.fingerprint(SEED_DID)
        assert await c1.status(name, "Central") == "Accepted"
        assert await c1.status(name.lower(), "Central") == "Accepted"
        if not c1.is_16:
            assert await c1.status(SEED_DID, "Central") == "Accepted"
            assert await c1.status(SEED_DID.upper(), "Central") == "Accepted"


async def _holder(world: World, number: int) -> Any:
    await world.driver(number)
    return await world.store.read(lambda tx: identities.get_holder(tx, did_of(number)))


async def test_09_another_operators_name_means_nobody(version: str, sqlite_url: str) -> None:
    async with talking(version, sqlite_url) as c1:
        await c1.world.driver(1)
        keys = c1.world.system.keys
        foreign = replace(keys, key=b"a key of somebody else").fingerprint(did_of(1))
        assert await c1.status(keys.fingerprint(did_of(1)), "Central") == "Accepted"
        assert await c1.status(foreign, "Central") == c1.word("Invalid", "Unknown")


async def test_10_a_name_of_the_previous_key_holds_while_both_are_known(
    version: str, sqlite_url: str
) -> None:
    first = IdentitySettings(tenant_key=SecretStr(KEY))
    overlap = IdentitySettings(
        tenant_key=SecretStr(NEXT_KEY), key_epoch=2, previous_tenant_key=SecretStr(KEY)
    )
    after = IdentitySettings(tenant_key=SecretStr(NEXT_KEY), key_epoch=2)
    old = tenant_keys(first, sqlite_url).fingerprint(did_of(1))
    new = tenant_keys(after, sqlite_url).fingerprint(did_of(1))
    refused = "Invalid" if version == "1.6" else "Unknown"

    async with talking(version, sqlite_url, settings(sqlite_url, identity=first)) as c1:
        await c1.world.driver(1)
        assert await c1.status(old, "Central") == "Accepted"
        assert await c1.status(new, "Central") == refused
    given = settings(sqlite_url, identity=overlap)
    async with talking(version, sqlite_url, given, register=False) as c1:
        assert await c1.status(old, "Central") == "Accepted"
        assert await c1.status(new, "Central") == "Accepted"
        # A driver who is enrolled meanwhile has cards of both kinds too.
        await c1.world.driver(2)
        known = tenant_keys(first, sqlite_url).fingerprint(did_of(2))
        assert await c1.status(known, "Central") == "Accepted"
    given = settings(sqlite_url, identity=after)
    async with talking(version, sqlite_url, given, register=False) as c1:
        assert await c1.status(old, "Central") == refused
        assert await c1.status(new, "Central") == "Accepted"


async def test_11_a_suspended_token_is_blocked(version: str, sqlite_url: str) -> None:
    async with talking(version, sqlite_url) as c1:
        card = await c1.world.driver(1)
        assert await c1.status(card) == "Accepted"
        async with c1.world.operator() as operator:
            answer = await operator.put(
                "/api/v1/tokens",
                json={"value": card, "kind": "ISO14443", "did": did_of(1), "state": "suspended"},
            )
            assert answer.is_success, answer.text
        assert await c1.status(card) == "Blocked"


async def test_16_17_a_driver_of_another_site_or_of_none_is_refused(
    version: str, sqlite_url: str
) -> None:
    async with talking(version, sqlite_url) as c1:
        elsewhere = await c1.world.driver(1, allowed_sites=("s1",))
        nowhere = await c1.world.driver(2, allowed_sites=())
        for card in (elsewhere, nowhere):
            assert await c1.status(card) == c1.word("Blocked", "NotAtThisLocation")


async def test_21_22_a_second_start_is_concurrent_and_a_repeat_is_not(
    version: str, sqlite_url: str
) -> None:
    async with talking(version, sqlite_url) as c1:
        card = await c1.world.driver(1)
        first = c1.started(card)
        status, known = await c1.say_start(first)
        assert status == "Accepted"
        assert await c1.status(card) == "Accepted"
        second, transaction_id = await c1.start(card, evse_id=2)
        assert second == "ConcurrentTx"
        assert transaction_id not in ("", "0", "-1", known)
        assert await c1.say_start(first) == ("Accepted", known)
        assert len(await c1.world.sessions()) == 2


async def test_a_plain_token_without_a_driver_starts_once_as_well(
    version: str, sqlite_url: str
) -> None:
    async with talking(version, sqlite_url) as c1:
        await c1.world.system.enrolment.put_tokens(
            [TokenRecord(value="04CAFE00000001", kind="ISO14443", did="")], by="test"
        )
        status, transaction_id = await c1.start("04CAFE00000001")
        assert status == "Accepted"
        assert (await c1.start("04cafe00000001", evse_id=2))[0] == "ConcurrentTx"
        await c1.stop(transaction_id, "04CAFE00000001")
        assert (await c1.start("04CAFE00000001"))[0] == "Accepted"


async def test_a_start_on_the_evse_of_a_lost_end_is_not_concurrent(
    version: str, sqlite_url: str
) -> None:
    async with talking(version, sqlite_url) as c1:
        card = await c1.world.driver(1)
        assert (await c1.start(card))[0] == "Accepted"
        # The station lost the end of it; the same driver plugs in at the same place again.
        assert (await c1.start(card))[0] == "Accepted"
        first, second = await c1.world.sessions()
        assert (first.state, second.state) == (SessionState.ENDED, SessionState.OPEN)
        assert first.is_estimated


async def test_23_49_a_revoked_driver_starts_nothing_and_may_stop_what_runs(
    version: str, sqlite_url: str
) -> None:
    async with talking(version, sqlite_url) as c1:
        card = await c1.world.driver(1)
        assert await c1.status(card) == "Accepted"
        status, running = await c1.start(card)
        assert status == "Accepted"
        await c1.world.system.enrolment.put_tokens(
            [TokenRecord(value=card, kind="ISO14443", did=did_of(1), state="blocked")], by="test"
        )
        status, refused = await c1.start(card, evse_id=2)
        assert status == "Blocked"
        assert refused not in ("", "0", "-1", running)
        await c1.stop(running, card)
        sessions = {s.transaction_id: s for s in await c1.world.sessions()}
        assert sessions[running].state is SessionState.ENDED
        assert sessions[running].stop_reason == "Local"


async def test_24_29_a_session_token_starts_once_where_it_was_made_for(
    version: str, sqlite_url: str
) -> None:
    async with talking(version, sqlite_url) as c1:
        await c1.world.driver(1)
        token = new_session_token()
        until = c1.world.clock.now() + timedelta(minutes=10)
        await c1.world.system.enrolment.put_tokens(
            [
                TokenRecord(
                    value=token,
                    kind="session",
                    did=did_of(1),
                    station_id="c1",
                    evse_id=1,
                    valid_until=until,
                )
            ],
            by="test",
        )
        assert (await c1.start(token, evse_id=2, kind="Central"))[0] == "Invalid"
        first = c1.started(token, evse_id=1, kind="Central")
        status, transaction_id = await c1.say_start(first)
        assert status == "Accepted"
        assert await c1.say_start(first) == ("Accepted", transaction_id)
        await c1.stop(transaction_id, token)
        assert await c1.status(token, "Central") == "Invalid"
        assert (await c1.start(token, evse_id=1, kind="Central"))[0] == "Invalid"
        kept = await c1.world.store.read(lambda tx: identities.find_token(tx, "session", token))
        ended = [s for s in await c1.world.sessions() if s.transaction_id == transaction_id]
        assert kept is not None
        assert [kept.consumed_by] == [s.session_id for s in ended]


async def test_50_guessing_stops_the_look_ups_of_that_station_only(
    version: str, sqlite_url: str
) -> None:
    async with talking(version, sqlite_url) as c1:
        card = await c1.world.driver(1)
        await c1.world.register("c2")
        for n in range(20):
            assert await c1.status(f"BAD0{n:04X}") == c1.word("Invalid", "Unknown")
        assert await c1.status(card) == c1.word("Invalid", "Unknown")
        async with c1.world.station("c2", version) as other:
            await other.boot()
            assert await Talker(c1.world, other, version).status(card) == "Accepted"


async def test_55_decisions_on_record_name_no_token(version: str, sqlite_url: str) -> None:
    async with talking(version, sqlite_url) as c1:
        await c1.status(await c1.world.driver(1))
        async with c1.world.operator() as operator:
            shown = (await operator.get("/api/v1/decisions")).text
        assert "accepted" in shown
        assert card_of(1) not in shown
