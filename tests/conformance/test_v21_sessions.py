"""Block V of the conformance cases: provisioning and sessions on OCPP 2.1 (V01-V11)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from csms.core.errors import Conflict, InvalidInput
from csms.core.model import Credential, Holder, TokenRecord
from csms.store import stations
from tests.conformance.conftest import Lab
from tests.conformance.journey21 import Tx, energy, instant, told
from tests.conformance.raw import RawStation
from tests.scenarios.world import did_of, eventually

PASSWORD = "p" * 64
IDENTITY = "i" * 48
LIMITS = told(TxCtrlr__SupportedLimits="MaxEnergy,MaxTime,MaxCost")


async def session_of(lab: Lab, tx: Tx) -> dict[str, Any]:
    found = (await lab.get("sessions"))["items"]
    return next(s for s in found if s["transaction_id"] == tx.transaction_id)


async def terms_of(lab: Lab, tx: Tx) -> dict[str, Any]:
    found: dict[str, Any] = await lab.get(
        f"sessions/{(await session_of(lab, tx))['session_id']}/terms"
    )
    return found


async def able(lab: Lab, name: str) -> None:
    """Wait until a station has told what it can do."""

    async def claim() -> bool:
        return bool((await lab.get("stations/CS-1/abilities"))[name])

    await eventually(claim, name)


async def test_v01_a_network_profile_carries_identity_and_password_and_no_log_has_it(
    lab: Lab, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {
        "ocppInterface": "Wired0",
        "ocppTransport": "JSON",
        "messageTimeout": 30,
        "ocppCsmsUrl": "wss://example.org/ocpp",
        "securityProfile": 2,
        "identity": IDENTITY,
        "basicAuthPassword": PASSWORD,
    }
    with caplog.at_level("DEBUG"):
        async with lab.station("2.1") as station:
            outcome = await lab.command(
                "SetNetworkProfile", {"configurationSlot": 1, "connectionData": data}
            )
            assert outcome["outcome"] == "accepted"
            sent = (await station.called("SetNetworkProfile")).payload["connectionData"]
            assert sent == data
    assert PASSWORD not in caplog.text
    assert PASSWORD not in "".join(capsys.readouterr())


async def test_v02_an_idle_station_resets_and_resumes(lab: Lab) -> None:
    async with lab.station("2.1") as station:
        outcome = await lab.command("Reset", {"type": "ImmediateAndResume"})
        assert (outcome["outcome"], outcome["status"]) == ("accepted", "Accepted")
        assert (await station.called("Reset")).payload == {"type": "ImmediateAndResume"}


def profiles(station: RawStation) -> list[dict[str, Any]]:
    found = [c.payload["chargingProfile"] for c in station.seen("SetChargingProfile")]
    return [p for p in found if p["chargingProfilePurpose"] == "TxProfile"]


async def test_v03_v04_a_session_goes_on_after_a_power_cut_and_gets_its_profile_once(
    lab: Lab,
) -> None:
    card = await lab.world.driver(1, departs_in=timedelta(hours=8), energy_kwh=20.0)
    async with lab.station("2.1") as station:
        await lab.world.guarded("CS-1")
        tx = Tx(station, card)
        assert (await tx.started())["idTokenInfo"]["status"] == "Accepted"
        await eventually(lambda: profiles(station), "no profile")
        before = profiles(station)[-1]
    async with lab.station("2.1") as back:
        tx.station = back
        answer = await tx.say("Updated", "TxResumed", meterValue=energy(500))
        assert "idTokenInfo" not in answer
        await eventually(lambda: profiles(back), "profile not restored")
        # A second word of the same changes nothing.
        await tx.say("Updated", "MeterValuePeriodic", meterValue=energy(600))
        head = await lab.world.newest_plan()
        lab.world.system.replanner.touch("main", "test")
        await eventually(lambda: _is_newer(lab, head.plan_id), "no further plan")
        (restored,) = profiles(back)
        assert restored["id"] == before["id"]
        assert restored["transactionId"] == tx.transaction_id
    session = await session_of(lab, tx)
    assert session["ended_at"] is None
    assert len((await lab.get("sessions"))["items"]) == 1
    assert "start_missing" not in session["flags"]


async def _is_newer(lab: Lab, plan_id: int) -> bool:
    head = await lab.world.newest_plan()
    return bool(head.plan_id > plan_id)


async def authorize(station: RawStation, value: str, kind: str) -> str:
    answer = await station.call("Authorize", {"idToken": {"idToken": value, "type": kind}})
    return str(answer["idTokenInfo"]["status"])


async def test_v05_long_tokens_and_dids_are_id_tokens(lab: Lab) -> None:
    enrolment = lab.world.system.enrolment
    long_did = "did:web:" + "Example".ljust(52, "x")
    assert len(long_did) == 60
    escaped = "did:web:example.org%3A3000"
    for did in (long_did, escaped):
        await enrolment.put_holders([Holder(did=did, allowed_sites=("*",))], by="test")
    await enrolment.put_tokens([TokenRecord(value="K" * 255, kind="", did=long_did)], by="test")
    async with lab.station("2.1") as station:
        assert await authorize(station, "K" * 255, "AgreedByUs") == "Accepted"
        for value in (long_did, long_did.upper(), long_did.swapcase()):
            assert await authorize(station, value, "DID") == "Accepted"
            assert await authorize(station, value, "Central") == "Accepted"
        for kind in ("DID", "Central", "Local"):
            assert await authorize(station, escaped, kind) in ("Invalid", "Unknown")
        name = lab.world.system.keys.fingerprint(escaped)
        assert await authorize(station, name, "Central") == "Accepted"
    with pytest.raises(Conflict):
        await enrolment.put_holders(
            [Holder(did=long_did.upper().replace("DID:WEB", "did:web"))], by="test"
        )
    with pytest.raises(InvalidInput):
        await enrolment.put_tokens([TokenRecord(value=escaped, kind="did", did=escaped)], by="test")


async def test_v06_a_prepaid_card_without_credit_is_told_so(lab: Lab) -> None:
    spent = Credential(
        credential_id="c1",
        kind="EmployeeCredential",
        issuer="did:web:example.org",
        subject=did_of(1),
        sites=("*",),
        allowance_kwh=10.0,
        used_kwh=10.0,
    )
    card = await lab.world.driver(1, credentials=(spent,))
    async with lab.station("2.1") as station:
        assert await authorize(station, card, "ISO14443") == "NoCredit"


async def test_v07_a_limit_that_the_station_sets_is_kept_and_shown(lab: Lab) -> None:
    card = await lab.world.driver(1)
    async with lab.station("2.1") as station:
        tx = Tx(station, card)
        await tx.started()
        limit = {"maxEnergy": 5000.0}
        assert "transactionLimit" not in await tx.say(
            "Updated", "LimitSet", info={"transactionLimit": limit}
        )
        shown = (await terms_of(lab, tx))["station_limit"]
        assert shown == {"cost": None, "energy_wh": 5000.0, "time_s": None, "soc": None}
        await tx.say("Ended", "EnergyLimitReached", info={"stoppedReason": "EnergyLimitReached"})
        assert (await session_of(lab, tx))["stop_reason"] == "EnergyLimitReached"


async def limited(lab: Lab, card: str, **limit: Any) -> None:
    found = await lab.api.put(f"/api/v1/limits/{card}", json=limit)
    assert found.is_success, found.text


@pytest.mark.parametrize("supports", [True, False])
async def test_v08_a_cost_limit_is_sent_where_supported_and_the_running_cost_always(
    lab: Lab, supports: bool
) -> None:
    card = await lab.world.driver(1)
    await limited(lab, card, max_cost=12.5)
    kinds = "MaxCost,MaxEnergy" if supports else "MaxEnergy"
    answers = {"GetVariables": told(TxCtrlr__SupportedLimits=kinds)}
    async with lab.station("2.1", answers=answers) as station:
        await able(lab, "supported_limits")
        tx = Tx(station, card)
        answer = await tx.started()
        assert answer.get("transactionLimit") == ({"maxCost": 12.5} if supports else None)
        answer = await tx.say("Updated", "MeterValuePeriodic", meterValue=energy(2000))
        assert "transactionLimit" not in answer
        # 2 kWh at the site's price for drivers.
        site = await lab.world.store.read(lambda tx: stations.get_site(tx, "main"))
        price = site.revenue_per_kwh
        assert answer["totalCost"] == pytest.approx(2 * price, abs=0.005)
        answer = await tx.say("Ended", "StopAuthorized", meterValue=energy(3000))
        assert answer["totalCost"] == pytest.approx(3 * price, abs=0.005)


@pytest.mark.parametrize(
    ("limit", "told_limit"),
    [({"max_energy_kwh": 7.5}, {"maxEnergy": 7500.0}), ({"max_time_s": 3600}, {"maxTime": 3600})],
    ids=["V09 energy", "V10 time"],
)
async def test_v09_v10_a_limit_of_ours_is_sent_once_in_the_first_answer(
    lab: Lab, limit: dict[str, Any], told_limit: dict[str, Any]
) -> None:
    card = await lab.world.driver(1)
    await limited(lab, card, **limit)
    async with lab.station("2.1", answers={"GetVariables": LIMITS}) as station:
        await able(lab, "supported_limits")
        tx = Tx(station, card)
        token = {"idToken": {"idToken": card, "type": "ISO14443"}}
        first = tx.event("Started", "Authorized", **token, meterValue=energy(0))
        assert (await station.call("TransactionEvent", first))["transactionLimit"] == told_limit
        # The same message once more means the same.
        assert (await station.call("TransactionEvent", first))["transactionLimit"] == told_limit
        for _ in range(2):
            answer = await tx.say("Updated", "MeterValuePeriodic", meterValue=energy(10))
            assert "transactionLimit" not in answer
        kept = (await terms_of(lab, tx))["limit"]
        assert {v for v in kept.values() if v is not None} == set(told_limit.values())


async def test_v09_what_is_left_of_an_allowance_is_the_limit(lab: Lab) -> None:
    claim = Credential(
        credential_id="c1",
        kind="EmployeeCredential",
        issuer="did:web:example.org",
        subject=did_of(1),
        sites=("*",),
        allowance_kwh=10.0,
        used_kwh=4.0,
    )
    over = replace(
        claim, credential_id="c0", used_kwh=10.0, valid_until=datetime(2020, 1, 1, tzinfo=UTC)
    )
    card = await lab.world.driver(1, credentials=(over, claim))
    async with lab.station("2.1", answers={"GetVariables": LIMITS}) as station:
        await able(lab, "supported_limits")
        assert (await Tx(station, card).started())["transactionLimit"] == {"maxEnergy": 6000.0}


async def test_v11_the_state_of_a_connector_comes_by_notify_event_alone(lab: Lab) -> None:
    def event(value: str) -> dict[str, Any]:
        return {
            "generatedAt": instant(),
            "seqNo": 0,
            "eventData": [
                {
                    "eventId": 1,
                    "timestamp": instant(),
                    "trigger": "Delta",
                    "actualValue": value,
                    "eventNotificationType": "HardWiredNotification",
                    "component": {"name": "Connector", "evse": {"id": 1, "connectorId": 1}},
                    "variable": {"name": "AvailabilityState"},
                }
            ],
        }

    async with lab.station("2.1") as station:
        for value in ("Available", "Occupied", "Faulted"):
            assert await station.call("NotifyEvent", event(value)) == {}
            shown = await lab.get("stations/CS-1")
            assert [e["status"] for e in shown["evses"]] == [value]
