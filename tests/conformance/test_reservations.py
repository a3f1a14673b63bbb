"""Block H and the 1.6 rows S35-S41 of the conformance cases: reservations."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conformance.conftest import Lab
from tests.conformance.raw import RawStation
from tests.scenarios.world import card_of, eventually

_seq = itertools.count()


def later(seconds: float = 3600) -> str:
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    return until.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now() -> str:
    return later(0)


async def reserve(lab: Lab, card: str, **given: Any) -> dict[str, Any]:
    """Ask for a reservation by the API and return its answer."""
    body = {
        "station_id": "CS-1",
        "id_token": card,
        "id_token_kind": "ISO14443",
        "expires_at": later(),
        **given,
    }
    found = await lab.api.post("/api/v1/reservations", json=body)
    assert found.status_code == 201, found.text
    answer: dict[str, Any] = found.json()
    return answer


async def kept(lab: Lab, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await lab.get("reservations", station_id="CS-1", **query))[
        "items"
    ]
    return found


async def status(station: RawStation, word: str, evse_id: int = 1) -> None:
    if station.version == "1.6":
        payload = {"connectorId": evse_id, "errorCode": "NoError", "status": word}
    else:
        payload = {
            "timestamp": now(),
            "connectorStatus": word,
            "evseId": evse_id,
            "connectorId": 1,
        }
    assert await station.call("StatusNotification", payload) == {}


async def start(
    station: RawStation, card: str, reservation_id: int | None, evse_id: int = 1
) -> str:
    """Start a transaction with a reservation; return the decision."""
    if station.version == "1.6":
        payload: dict[str, Any] = {
            "connectorId": evse_id,
            "idTag": card,
            "meterStart": next(_seq),
            "timestamp": now(),
        }
        if reservation_id is not None:
            payload["reservationId"] = reservation_id
        answer = await station.call("StartTransaction", payload)
        return str(answer["idTagInfo"]["status"])
    payload = {
        "eventType": "Started",
        "timestamp": now(),
        "triggerReason": "Authorized",
        "seqNo": 0,
        "transactionInfo": {"transactionId": f"tx-{next(_seq)}", "chargingState": "Charging"},
        "evse": {"id": evse_id, "connectorId": 1},
        "idToken": {"idToken": card, "type": "ISO14443"},
    }
    if reservation_id is not None:
        payload["reservationId"] = reservation_id
    answer = await station.call("TransactionEvent", payload)
    return str(answer["idTokenInfo"]["status"])


@pytest.mark.case("H01", "S35")
async def test_h01_s35_a_reservation_is_kept_from_sending_on_and_used_up(
    lab: Lab, version: str
) -> None:
    card = await lab.world.driver(1)
    async with lab.station(version, evses=2) as station:
        first = await reserve(lab, card, evse_id=1)
        second = await reserve(lab, card, evse_id=2)
        assert first["outcome"] == "accepted"
        number = first["reservation"]["reservation_id"]
        assert second["reservation"]["reservation_id"] != number
        call = (await station.called("ReserveNow")).payload
        assert "connectorType" not in call
        if version == "1.6":
            assert (call["connectorId"], call["idTag"], call["reservationId"]) == (1, card, number)
        else:
            assert (call["evseId"], call["id"]) == (1, number)
            assert call["idToken"] == {"idToken": card, "type": "ISO14443"}
        await status(station, "Reserved")
        assert [r["status"] for r in await kept(lab)] == ["ACTIVE", "ACTIVE"]
        assert await start(station, card, number) == "Accepted"
        used = next(r for r in await kept(lab) if r["reservation_id"] == number)
        assert used["status"] == "USED"
        assert used["session_id"] == (await lab.world.session()).session_id
        assert [r["evse_id"] for r in await kept(lab, open="true")] == [2]


async def test_h02_the_station_says_that_a_reservation_expired(lab: Lab) -> None:
    async with lab.station("2.0.1") as station:
        number = (await reserve(lab, card_of(1), evse_id=1, expires_at=later(60)))["reservation"][
            "reservation_id"
        ]
        await status(station, "Reserved")
        await status(station, "Available")
        update = {"reservationId": number, "reservationUpdateStatus": "Expired"}
        for _ in range(2):
            assert await station.call("ReservationStatusUpdate", update) == {}
        (found,) = await kept(lab)
        assert (found["status"], found["reason"]) == ("EXPIRED", "Expired")


async def test_s36_a_reservation_that_nobody_used_expires(lab: Lab) -> None:
    async with lab.station("1.6") as station:
        await reserve(lab, card_of(1), evse_id=1, expires_at=later(2.0))
        await status(station, "Reserved")
        await status(station, "Available")

        async def expired() -> bool:
            await lab.world.system.reservations.expire()
            return bool((await kept(lab))[0]["status"] == "EXPIRED")

        await eventually(expired, "the reservation stays open")


@pytest.mark.case("H03", "H04", "S39")
async def test_h03_h04_s39_without_an_evse_the_station_chooses(lab: Lab, version: str) -> None:
    async with lab.station(version, evses=2) as station:
        numbers = [
            (await reserve(lab, card_of(n)))["reservation"]["reservation_id"] for n in (1, 2)
        ]
        assert len(set(numbers)) == 2
        for number in numbers:
            call = (await station.called("ReserveNow")).payload
            if version == "1.6":
                assert (call["connectorId"], call["reservationId"]) == (0, number)
            else:
                assert "evseId" not in call
                assert call["id"] == number
        await status(station, "Reserved", 1)
        await status(station, "Reserved", 2)
        assert [r["status"] for r in await kept(lab)] == ["ACTIVE", "ACTIVE"]


async def test_h05_a_type_of_connector_can_be_reserved(lab: Lab) -> None:
    async with lab.station("2.0.1") as station:
        await reserve(lab, card_of(1), connector_type="cType2")
        call = (await station.called("ReserveNow")).payload
        assert call["connectorType"] == "cType2"
        assert "evseId" not in call


@pytest.mark.case("H06", "S40")
async def test_h06_s40_a_reservation_is_cancelled_by_its_id(lab: Lab, version: str) -> None:
    async with lab.station(version) as station:
        number = (await reserve(lab, card_of(1), evse_id=1))["reservation"]["reservation_id"]
        await status(station, "Reserved")
        done = await lab.api.delete(f"/api/v1/reservations/{number}")
        assert done.json()["outcome"] == "accepted"
        assert (await station.called("CancelReservation")).payload == {"reservationId": number}
        await status(station, "Available")
        (found,) = await kept(lab)
        assert found["status"] == "CANCELLED"
        assert (await lab.api.delete(f"/api/v1/reservations/{number}")).status_code == 409
        assert (await lab.api.delete("/api/v1/reservations/99")).status_code == 404


@pytest.mark.parametrize("word", ["Occupied", "Unavailable", "Faulted", "Rejected"])
@pytest.mark.case("H07", "S37", "S38")
async def test_h07_s37_s38_a_refusal_is_an_outcome_and_nothing_is_kept_free(
    lab: Lab, version: str, word: str
) -> None:
    async with lab.station(version, answers={"ReserveNow": {"status": word}}) as station:
        await status(station, "Preparing" if version == "1.6" else "Occupied")
        answer = await reserve(lab, card_of(1), evse_id=1)
        assert (answer["outcome"], answer["status"]) == ("rejected", word)
        assert await kept(lab, open="true") == []
        (found,) = await kept(lab)
        assert (found["status"], found["reason"]) == ("REJECTED", word)


async def test_h08_holder_and_group_use_a_reservation_and_a_stranger_is_flagged(
    lab: Lab, version: str
) -> None:
    holder = await lab.world.driver(1, organisation="fleet")
    member = await lab.world.driver(2, organisation="fleet")
    stranger = await lab.world.driver(3)
    async with lab.station(version, evses=3) as station:
        told = (await station.call("Authorize", authorize(version, holder)))[
            "idTagInfo" if version == "1.6" else "idTokenInfo"
        ]
        group = told["parentIdTag"] if version == "1.6" else told["groupIdToken"]["idToken"]
        numbers = {}
        for evse_id in (1, 2, 3):
            answer = await reserve(lab, holder, evse_id=evse_id, group=group)
            numbers[evse_id] = answer["reservation"]["reservation_id"]
        call = (await station.called("ReserveNow")).payload
        assert group in (call.get("parentIdTag"), call.get("groupIdToken", {}).get("idToken"))
        for evse_id, card in ((1, holder), (2, member), (3, stranger)):
            assert await start(station, card, numbers[evse_id], evse_id) == "Accepted"
        states = {r["evse_id"]: r["status"] for r in await kept(lab)}
        assert states == {1: "USED", 2: "USED", 3: "ACTIVE"}
        flags = {s.evse_id: s.flags for s in await lab.world.sessions()}
        assert [e for e in flags if "reservation_of_other" in flags[e]] == [3]
        assert len(await lab.world.events("reservation of somebody else used")) == 1


async def test_s41_a_member_of_the_group_uses_the_reservation_and_stops(lab: Lab) -> None:
    holder = await lab.world.driver(1, organisation="fleet")
    member = await lab.world.driver(2, organisation="fleet")
    async with lab.station("1.6") as station:
        told = await station.call("Authorize", {"idTag": holder})
        group = told["idTagInfo"]["parentIdTag"]
        number = (await reserve(lab, holder, evse_id=1, group=group))["reservation"][
            "reservation_id"
        ]
        call = (await station.called("ReserveNow")).payload
        assert (call["idTag"], call["parentIdTag"]) == (holder, group)
        assert (await station.call("Authorize", {"idTag": member}))["idTagInfo"][
            "parentIdTag"
        ] == group
        assert await start(station, member, number) == "Accepted"
        session = await lab.world.session()
        again = (await station.call("Authorize", {"idTag": holder}))["idTagInfo"]
        assert (again["status"], again["parentIdTag"]) == ("Accepted", group)
        stopped = await station.call(
            "StopTransaction",
            {
                "transactionId": int(session.transaction_id),
                "idTag": holder,
                "meterStop": 100,
                "timestamp": now(),
            },
        )
        info = stopped["idTagInfo"]
        assert (info["status"], info["parentIdTag"]) == ("Accepted", group)
        assert [r["status"] for r in await kept(lab)] == ["USED"]


async def test_a_reservation_is_given_up_when_its_connector_faults(lab: Lab, version: str) -> None:
    async with lab.station(version) as station:
        number = (await reserve(lab, card_of(1), evse_id=1))["reservation"]["reservation_id"]
        await status(station, "Faulted")
        call = await station.called("CancelReservation")
        assert call.payload == {"reservationId": number}
        (found,) = await kept(lab)
        assert (found["status"], found["reason"]) == ("REMOVED", "Faulted")
        assert len(await lab.world.events("reservation lost")) == 1


async def test_a_raw_reservation_is_kept_like_a_typed_one(lab: Lab, version: str) -> None:
    """K14: the row exists from sending on and is CANCELLED when the station accepts."""
    payload: dict[str, Any]
    if version == "1.6":
        payload = {
            "connectorId": 1,
            "expiryDate": later(),
            "idTag": card_of(1),
            "reservationId": 4711,
        }
    else:
        payload = {
            "id": 4711,
            "expiryDateTime": later(),
            "evseId": 1,
            "idToken": {"idToken": card_of(1), "type": "ISO14443"},
        }
    async with lab.station(version):
        await lab.command("ReserveNow", payload)
        assert [(r["reservation_id"], r["status"]) for r in await kept(lab)] == [(4711, "ACTIVE")]
        await lab.command("CancelReservation", {"reservationId": 4711})
        assert [r["status"] for r in await kept(lab)] == ["CANCELLED"]
        answer = await reserve(lab, card_of(1), evse_id=1)
        assert answer["reservation"]["reservation_id"] == 4712


async def test_what_cannot_be_reserved_is_said_clearly(lab: Lab) -> None:
    body = {"station_id": "CS-1", "id_token": card_of(1), "expires_at": later()}
    async with lab.station("1.6"):
        for change, code, word in (
            ({"station_id": "nobody"}, 404, "nobody"),
            ({"expires_at": later(-5)}, 422, "expires_at"),
            ({"connector_type": "cType2"}, 409, "1.6"),
            ({"id_token": ""}, 422, "id_token"),
            ({"until": "x"}, 422, "until"),
        ):
            found = await lab.api.post("/api/v1/reservations", json=body | change)
            assert found.status_code == code, found.text
            assert word in found.text


def authorize(version: str, card: str) -> dict[str, Any]:
    if version == "1.6":
        return {"idTag": card}
    return {"idToken": {"idToken": card, "type": "ISO14443"}}
