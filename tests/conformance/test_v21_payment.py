"""Block V of the conformance cases: payment on OCPP 2.1 (V12-V15)."""

import asyncio
import json
from typing import Any

import pytest

from csms.core.model import TokenRecord
from tests.conformance.conftest import Lab
from tests.conformance.journey21 import Tx, energy, instant, told
from tests.conformance.test_v21_sessions import able, limited, terms_of
from tests.scenarios.world import did_of


async def records(lab: Lab, action: str) -> list[dict[str, Any]]:
    found = (await lab.get("stations/CS-1/records", action=action))["items"]
    return [json.loads(record["payload"]) for record in found]


@pytest.mark.parametrize("evse", [{}, {"evseId": 1}])
async def test_v12_a_vat_number_is_answered_at_once(lab: Lab, evse: dict[str, int]) -> None:
    async with lab.station("2.1") as station:
        async with asyncio.timeout(5):
            told = {"vatNumber": "DE123456789", **evse}
            answer = await station.call("VatNumberValidation", told)
        assert (answer["status"], answer["vatNumber"]) == ("Rejected", "DE123456789")
        assert answer.get("evseId") == evse.get("evseId")
        assert "company" not in answer
        (kept,) = await records(lab, "VatNumberValidation")
        assert kept["vatNumber"] == "DE123456789"


def settlement(status: str, **given: Any) -> dict[str, Any]:
    return {
        "pspRef": "psp-1",
        "status": status,
        "settlementAmount": 12.34,
        "settlementTime": instant(),
        **given,
    }


async def test_v13_a_settlement_is_kept_and_no_receipt_is_made_up(lab: Lab) -> None:
    async with lab.station("2.1") as station:
        told_receipt = settlement("Settled", receiptUrl="https://example.org/r/1", receiptId="1")
        assert await station.call("NotifySettlement", told_receipt) == {}
        (kept,) = await records(lab, "NotifySettlement")
        assert kept == told_receipt
        assert await lab.world.events("settlement failed") == []


@pytest.mark.parametrize("status", ["Failed", "Rejected"])
async def test_v14_a_failed_settlement_is_kept_and_raises_an_alarm(lab: Lab, status: str) -> None:
    async with lab.station("2.1") as station:
        failed = settlement(status)
        for _ in range(2):
            assert await station.call("NotifySettlement", failed) == {}
        assert await records(lab, "NotifySettlement") == [failed, failed]
        (alarm,) = await lab.world.events("settlement failed")
        assert alarm.event.level == "warning"
        assert alarm.event.detail == {"status": status, "amount": 12.34}


async def test_v15_a_direct_payment_starts_with_its_limit_and_settles_once_after_the_end(
    lab: Lab,
) -> None:
    await lab.world.driver(1)
    paid = "PAYMENT-4711"
    enrolment = lab.world.system.enrolment
    await enrolment.put_tokens([TokenRecord(value=paid, kind="", did=did_of(1))], by="test")
    await limited(lab, paid, max_cost=25)
    answers = {"GetVariables": told(TxCtrlr__SupportedLimits="MaxCost")}
    async with lab.station("2.1", answers=answers) as station:
        await able(lab, "supported_limits")
        token = {"idToken": paid, "type": "DirectPayment"}
        outcome = await lab.command(
            "RequestStartTransaction", {"remoteStartId": 7, "idToken": token, "evseId": 1}
        )
        assert outcome["outcome"] == "accepted"
        assert (await station.called("RequestStartTransaction")).payload["idToken"] == token
        tx = Tx(station, paid)
        first = tx.event(
            "Started",
            "RemoteStart",
            idToken=token,
            info={"remoteStartId": 7},
            meterValue=energy(0),
        )
        answer = await station.call("TransactionEvent", first)
        assert answer["idTokenInfo"]["status"] == "Accepted"
        assert answer["transactionLimit"] == {"maxCost": 25}
        answer = await tx.say("Ended", "StopAuthorized", meterValue=energy(10_000))
        assert answer["totalCost"] > 0
        settled = settlement("Settled", transactionId=tx.transaction_id)
        for _ in range(2):
            assert await station.call("NotifySettlement", settled) == {}
        assert (await terms_of(lab, tx))["settlement"] == settled
