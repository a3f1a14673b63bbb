"""Block N of the conformance cases: monitors, what they notice, and data of customers."""

from typing import Any

import pytest

from tests.conformance.conftest import Lab
from tests.conformance.devices import do, job_in, variable, when
from tests.conformance.raw import RawStation

STATE = {"component": "EVSE", "variable": "AvailabilityState", "evse_id": 1}


def monitors(request_id: int, seq_no: int, *, tbc: bool, ids: tuple[int, ...]) -> dict[str, Any]:
    return {
        "requestId": request_id,
        "generatedAt": when(),
        "seqNo": seq_no,
        "tbc": tbc,
        "monitor": [
            {
                **variable("EVSE", "Power", 1),
                "variableMonitoring": [
                    {
                        "id": monitor_id,
                        "transaction": False,
                        "value": 11.5,
                        "type": "UpperThreshold",
                        "severity": 4,
                    }
                    for monitor_id in ids
                ],
            }
        ],
    }


# --- monitors ------------------------------------------------------------------------------------


async def test_n01_monitors_are_reported_by_kind_and_an_empty_set_is_said_to_be_empty(
    lab: Lab,
) -> None:
    def answer(payload: dict[str, Any]) -> dict[str, Any]:
        is_delta = payload["monitoringCriteria"] == ["DeltaMonitoring"]
        return {"status": "EmptyResultSet" if is_delta else "Accepted"}

    async with lab.station(
        "2.0.1", automation=False, answers={"GetMonitoringReport": answer}
    ) as station:
        path = "stations/CS-1/monitors/report"
        empty = await do(lab, "POST", path, criteria=["DeltaMonitoring"])
        assert (empty["status"], empty["job"]["state"]) == ("EmptyResultSet", "empty")
        call = await station.called("GetMonitoringReport")
        assert "componentVariable" not in call.payload
        asked = await do(lab, "POST", path, criteria=["ThresholdMonitoring"])
        assert asked["outcome"] == "accepted"
        request_id = (await station.called("GetMonitoringReport")).payload["requestId"]
        for seq_no, ids in ((0, (1, 2)), (1, (3,))):
            payload = monitors(request_id, seq_no, tbc=seq_no == 0, ids=ids)
            assert await station.call("NotifyMonitoringReport", payload) == {}
        await job_in(lab, asked["job"]["request_key"], "done")
        shown = (await lab.get("stations/CS-1/monitors"))["items"]
    assert [(m["monitor_id"], m["kind"], m["severity"]) for m in shown] == [
        (n, "UpperThreshold", 4) for n in (1, 2, 3)
    ]
    assert (shown[0]["component"], shown[0]["variable"], shown[0]["value"]) == (
        "EVSE",
        "Power",
        11.5,
    )


async def test_n02_criteria_and_variables_are_both_sent(lab: Lab) -> None:
    for status in ("Accepted", "NotSupported"):
        async with lab.station(
            "2.0.1", automation=False, answers={"GetMonitoringReport": {"status": status}}
        ) as station:
            asked = await do(
                lab,
                "POST",
                "stations/CS-1/monitors/report",
                criteria=["ThresholdMonitoring"],
                variables=[STATE],
            )
            assert asked["status"] == status
            call = await station.called("GetMonitoringReport")
        assert call.payload["monitoringCriteria"] == ["ThresholdMonitoring"]
        assert call.payload["componentVariable"] == [variable("EVSE", "AvailabilityState", 1)]
        expected = "accepted" if status == "Accepted" else "failed"
        assert asked["job"]["state"] == expected


async def test_n03_without_a_filter_every_monitor_is_asked_for(lab: Lab) -> None:
    async with lab.station("2.0.1", automation=False) as station:
        asked = await do(lab, "POST", "stations/CS-1/monitors/report")
        call = await station.called("GetMonitoringReport")
        request_id = call.payload["requestId"]
        assert call.payload == {"requestId": request_id}
        key = asked["job"]["request_key"]
        for seq_no in (0, 1, 2):
            payload = monitors(request_id, seq_no, tbc=seq_no < 2, ids=(seq_no,))
            assert await station.call("NotifyMonitoringReport", payload) == {}
            expected = "done" if seq_no == 2 else "running"
            assert (await lab.get(f"jobs/{key}"))["state"] == expected


async def test_n04_each_monitoring_base_is_a_request_of_its_own(lab: Lab) -> None:
    bases = ("All", "FactoryDefault", "HardWiredOnly")
    async with lab.station("2.0.1", automation=False) as station:
        for base in bases:
            outcome = await do(lab, "PUT", "stations/CS-1/monitoring", base=base)
            assert outcome["outcome"] == "accepted"
        sent = [c.payload for c in station.seen("SetMonitoringBase")]
    assert sent == [{"monitoringBase": base} for base in bases]


async def test_n05_a_monitor_is_set_and_the_stations_number_for_it_kept(lab: Lab) -> None:
    def answer(payload: dict[str, Any]) -> dict[str, Any]:
        results = []
        for item in payload["setMonitoringData"]:
            keep = {k: item[k] for k in ("type", "severity", "component", "variable")}
            results.append({"status": "Accepted", "id": 77, **keep})
        return {"setMonitoringResult": results}

    async with lab.station(
        "2.0.1", automation=False, answers={"SetVariableMonitoring": answer}
    ) as station:
        wanted = {**STATE, "kind": "Delta", "value": 1, "severity": 8}
        outcome = await do(lab, "POST", "stations/CS-1/monitors", monitors=[wanted])
        assert outcome["outcome"] == "accepted"
        call = await station.called("SetVariableMonitoring")
        assert call.payload == {
            "setMonitoringData": [
                {
                    **variable("EVSE", "AvailabilityState", 1),
                    "type": "Delta",
                    "value": 1,
                    "severity": 8,
                }
            ]
        }
        (shown,) = (await lab.get("stations/CS-1/monitors"))["items"]
    assert (shown["monitor_id"], shown["kind"], shown["value"]) == (77, "Delta", 1)
    assert (shown["variable"], shown["severity"]) == ("AvailabilityState", 8)


@pytest.mark.case("N06", "N07")
async def test_n06_a_monitoring_level_is_set_or_refused(lab: Lab) -> None:
    for status, outcome in (("Accepted", "accepted"), ("Rejected", "rejected")):
        async with lab.station(
            "2.0.1", automation=False, answers={"SetMonitoringLevel": {"status": status}}
        ) as station:
            found = await do(lab, "PUT", "stations/CS-1/monitoring", level=4)
            assert (found["outcome"], found["status"]) == (outcome, status)
            assert (await station.called("SetMonitoringLevel")).payload == {"severity": 4}
            page = await lab.get("stations/CS-1/commands", action="SetMonitoringLevel")
        assert page["items"][0]["outcome"] == outcome


async def test_n08_clearing_monitors_keeps_an_outcome_for_each(lab: Lab) -> None:
    def answer(payload: dict[str, Any]) -> dict[str, Any]:
        results = [
            {"id": i, "status": "Rejected" if i == 2 else "Accepted"}
            for i in reversed(payload["id"])
        ]
        return {"clearMonitoringResult": results}

    async with lab.station(
        "2.0.1", automation=False, answers={"ClearVariableMonitoring": answer}
    ) as station:
        await do(lab, "POST", "stations/CS-1/monitors/report")
        request_id = (await station.called("GetMonitoringReport")).payload["requestId"]
        payload = monitors(request_id, 0, tbc=False, ids=(1, 2))
        await station.call("NotifyMonitoringReport", payload)
        found = await do(lab, "POST", "stations/CS-1/monitors/clear", monitor_ids=[1, 2])
        assert (found["outcome"], found["status"]) == ("rejected", "Rejected")
        assert {i["monitor_id"]: i["status"] for i in found["items"]} == {
            1: "Accepted",
            2: "Rejected",
        }
        shown = (await lab.get("stations/CS-1/monitors"))["items"]
    assert [m["monitor_id"] for m in shown] == [2]


# --- events --------------------------------------------------------------------------------------


async def notice(station: RawStation, event_id: int, **given: Any) -> None:
    event = {
        "eventId": event_id,
        "timestamp": when(),
        "trigger": "Periodic",
        "actualValue": "21.5",
        "eventNotificationType": "CustomMonitor",
        **variable("EVSE", "Temperature", 1),
        **given,
    }
    payload = {"generatedAt": when(), "seqNo": 0, "eventData": [event]}
    assert await station.call("NotifyEvent", payload) == {}


async def test_n09_periodic_events_are_answered_and_kept_each(lab: Lab) -> None:
    async with lab.station("2.0.1", automation=False) as station:
        for event_id in range(1, 6):
            await notice(station, event_id, variableMonitoringId=9, actualValue=str(event_id))
        await notice(station, 5, variableMonitoringId=9, timestamp=when(1))
        page = await lab.get("stations/CS-1/device-events")
        alerts = await lab.get("alerts")
    assert [e["event_id"] for e in page["items"]] == [5, 5, 4, 3, 2, 1]
    assert page["items"][1]["actual_value"] == "5"
    assert alerts["items"] == []


@pytest.mark.case("N10", "N11")
async def test_n10_an_alerting_event_opens_an_alert_and_its_clearing_closes_it(lab: Lab) -> None:
    async with lab.station("2.0.1", automation=False) as station:
        await do(lab, "POST", "stations/CS-1/monitors/report")
        request_id = (await station.called("GetMonitoringReport")).payload["requestId"]
        payload = monitors(request_id, 0, tbc=False, ids=(5,))
        await station.call("NotifyMonitoringReport", payload)
        hot = {
            "trigger": "Alerting",
            "eventNotificationType": "HardWiredMonitor",
            "variableMonitoringId": 5,
            "techCode": "E17",
            "techInfo": "fan stuck",
            "cause": 3,
        }
        await notice(station, 4, **hot)
        (alert,) = (await lab.get("alerts", is_open=True, station_id="CS-1"))["items"]
        assert (alert["subject"], alert["evse_id"]) == ("EVSE.Temperature", 1)
        assert (alert["severity"], alert["cause_id"], alert["event_id"]) == (4, 3, 4)
        assert alert["detail"] == "21.5 E17 fan stuck"
        await notice(station, 6, **hot, cleared=True)
        assert (await lab.get("alerts", is_open=True))["items"] == []
        (alert,) = (await lab.get("alerts", is_open=False))["items"]
        (newest, oldest) = (await lab.get("stations/CS-1/device-events"))["items"]
    assert alert["closed_at"] is not None
    assert (newest["is_cleared"], oldest["is_cleared"]) == (True, False)
    assert (oldest["severity"], oldest["cause_id"], oldest["tech_code"]) == (4, 3, "E17")


# --- customers -----------------------------------------------------------------------------------

TOKEN = "04A1B2C3D4E5F6"


async def ask(lab: Lab, **body: Any) -> dict[str, Any]:
    return await do(lab, "POST", "stations/CS-1/customer-information", **body)


async def tell(station: RawStation, request_id: int, *parts: str) -> None:
    for seq_no, data in enumerate(parts):
        payload = {
            "requestId": request_id,
            "generatedAt": when(),
            "seqNo": seq_no,
            "tbc": seq_no < len(parts) - 1,
            "data": data,
        }
        assert await station.call("NotifyCustomerInformation", payload) == {}


@pytest.mark.case("N15", "N16")
async def test_n15_what_a_station_holds_of_a_customer_is_shown_to_operators_only(
    lab: Lab,
) -> None:
    async with lab.station("2.0.1", automation=False) as station:
        asked = await ask(lab, id_token=TOKEN, id_token_kind="ISO14443")
        call = await station.called("CustomerInformation")
        request_id, key = call.payload["requestId"], asked["job"]["request_key"]
        assert call.payload == {
            "requestId": request_id,
            "report": True,
            "clear": False,
            "idToken": {"idToken": TOKEN, "type": "ISO14443"},
        }
        await tell(station, request_id, "since 2024; ", "12 sessions")
        shown = await lab.get(f"customer-information/{key}")
        assert (shown["data"], shown["state"]) == ("since 2024; 12 sessions", "done")
        # Nowhere else: not in the records, not in the jobs, and not for a viewer.
        made = await do(lab, "POST", "api-tokens", role="viewer", label="looks on")
        viewer = {"Authorization": f"Bearer {made['token']}"}
        path = f"/api/v1/customer-information/{key}"
        assert (await lab.api.get(path, headers=viewer)).status_code == 403
        for other in (f"jobs/{key}", "stations/CS-1/records", "stations/CS-1/jobs"):
            found = await lab.api.get(f"/api/v1/{other}", headers=viewer)
            assert found.status_code == 200
            assert "12 sessions" not in found.text
            assert TOKEN not in found.text
        asked = await ask(lab, customer_identifier="c-1")
        call = await station.called("CustomerInformation")
        assert call.payload["customerIdentifier"] == "c-1"
        assert "idToken" not in call.payload
        await tell(station, call.payload["requestId"], "")
        shown = await lab.get(f"customer-information/{asked['job']['request_key']}")
    assert (shown["data"], shown["state"]) == (None, "done")


@pytest.mark.case("N17", "N18", "N19")
@pytest.mark.parametrize(
    ("report", "clear", "whose"),
    [(True, True, "token"), (False, True, "token"), (True, True, "certificate")],
)
async def test_n17_both_flags_and_one_customer_are_sent_as_given(
    lab: Lab, report: bool, clear: bool, whose: str
) -> None:
    hashes = {
        "hash_algorithm": "SHA256",
        "issuer_name_hash": "aa",
        "issuer_key_hash": "bb",
        "serial_number": "01",
    }
    is_token = whose == "token"
    body: dict[str, Any] = {"id_token": TOKEN} if is_token else {"certificate": hashes}
    async with lab.station("2.0.1", automation=False) as station:
        asked = await ask(lab, report=report, clear=clear, **body)
        assert asked["outcome"] == "accepted"
        call = await station.called("CustomerInformation")
        await tell(station, call.payload["requestId"], "gone" if report else "")
        shown = await lab.get(f"customer-information/{asked['job']['request_key']}")
    assert (call.payload["report"], call.payload["clear"]) == (report, clear)
    assert shown["data"] == ("gone" if report else None)
    if whose == "token":
        assert call.payload["idToken"]["idToken"] == TOKEN
        assert "customerCertificate" not in call.payload
    else:
        assert "idToken" not in call.payload
        assert call.payload["customerCertificate"] == {
            "hashAlgorithm": "SHA256",
            "issuerNameHash": "aa",
            "issuerKeyHash": "bb",
            "serialNumber": "01",
        }


async def test_two_customers_or_none_at_once_are_refused(lab: Lab) -> None:
    async with lab.station("2.0.1", automation=False) as station:
        for body in ({}, {"id_token": TOKEN, "customer_identifier": "c"}):
            await do(lab, "POST", "stations/CS-1/customer-information", status=422, **body)
        assert station.seen("CustomerInformation") == []
