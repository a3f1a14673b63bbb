"""Block B of the conformance cases: variables and reports, one view for all versions."""

import contextlib
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from csms.core.commands import CommandResult, Outcome, RawCall
from csms.core.device import VariableFact, VariableName
from csms.store import commands, removal
from tests.conformance.conftest import Lab
from tests.conformance.devices import do, job_in, variable, when
from tests.conformance.raw import Refused

THRESHOLD = {"component": "OCPPCommCtrlr", "variable": "OfflineThreshold"}
REMOTE = {"component": "AuthCtrlr", "variable": "AuthorizeRemoteStart"}


def reported(component: str, name: str, value: str, **more: Any) -> dict[str, Any]:
    return {
        **variable(component, name),
        "variableAttribute": [{"type": "Actual", "value": value, "mutability": "ReadWrite"}],
        "variableCharacteristics": {
            "dataType": "integer",
            "unit": "s",
            "minLimit": 1,
            "maxLimit": 3600,
            "supportsMonitoring": True,
        },
        **more,
    }


def part(request_id: int, seq_no: int, *, tbc: bool, items: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "requestId": request_id,
        "generatedAt": when(),
        "seqNo": seq_no,
        "tbc": tbc,
        "reportData": items,
    }


# --- variables -----------------------------------------------------------------------------------


def answers(values: dict[str, tuple[str, str | None]]) -> Any:
    """Answer GetVariables by name, last asked first: never in the order of the question."""

    def answer(payload: dict[str, Any]) -> dict[str, Any]:
        items = []
        for item in reversed(payload["getVariableData"]):
            word, value = values[item["variable"]["name"]]
            given = {} if value is None else {"attributeValue": value}
            items.append({"attributeStatus": word, **given, **item})
        return {"getVariableResult": items}

    return answer


async def test_b05_one_variable_is_read_and_its_value_shown(lab: Lab) -> None:
    known = {"OfflineThreshold": ("Accepted", "60")}
    async with lab.station(
        "2.0.1", automation=False, answers={"GetVariables": answers(known)}
    ) as station:
        outcome = await do(lab, "POST", "stations/CS-1/variables/read", variables=[THRESHOLD])
        call = await station.called("GetVariables")
        assert call.payload == {"getVariableData": [variable("OCPPCommCtrlr", "OfflineThreshold")]}
        assert outcome["items"][0]["value"] == "60"
        (shown,) = (await lab.get("stations/CS-1/variables"))["items"]
    assert (shown["component"], shown["variable"], shown["value"]) == (*THRESHOLD.values(), "60")
    assert shown["read_at"] is not None


async def test_b06_two_variables_are_told_apart_by_name_not_by_place(lab: Lab) -> None:
    known = {"OfflineThreshold": ("Accepted", "60"), "AuthorizeRemoteStart": ("Accepted", "true")}
    async with lab.station(
        "2.0.1", automation=False, answers={"GetVariables": answers(known)}
    ) as station:
        await do(lab, "POST", "stations/CS-1/variables/read", variables=[THRESHOLD, REMOTE])
        call = await station.called("GetVariables")
        assert len(station.seen("GetVariables")) == 1
        assert [i["variable"]["name"] for i in call.payload["getVariableData"]] == [
            "OfflineThreshold",
            "AuthorizeRemoteStart",
        ]
        shown = {
            v["variable"]: v["value"] for v in (await lab.get("stations/CS-1/variables"))["items"]
        }
    assert shown == {"OfflineThreshold": "60", "AuthorizeRemoteStart": "true"}


async def test_b07_a_variable_is_set_as_text_and_the_outcome_shown(lab: Lab) -> None:
    async with lab.station("2.0.1", automation=False) as station:
        wanted = [{**THRESHOLD, "value": "123"}]
        outcome = await do(lab, "PUT", "stations/CS-1/variables", variables=wanted)
        assert (outcome["outcome"], outcome["status"]) == ("accepted", "Accepted")
        call = await station.called("SetVariables")
        (sent,) = call.payload["setVariableData"]
        assert sent == {"attributeValue": "123", **variable("OCPPCommCtrlr", "OfflineThreshold")}
        (shown,) = (await lab.get("stations/CS-1/variables"))["items"]
    assert (shown["set_value"], shown["set_status"], shown["value"]) == ("123", "Accepted", "123")


async def test_b08_each_variable_keeps_its_own_outcome(lab: Lab, version: str) -> None:
    def two(payload: dict[str, Any]) -> dict[str, Any]:
        return {
            "setVariableResult": [
                {
                    "attributeStatus": "Rejected" if "Remote" in i["variable"]["name"] else word,
                    "component": i["component"],
                    "variable": i["variable"],
                }
                for i in reversed(payload["setVariableData"])
            ]
        }

    def one(payload: dict[str, Any]) -> dict[str, Any]:
        return {"status": "Rejected" if "Remote" in payload["key"] else word}

    # A station that has to restart for it has not taken the value yet.
    word = "RebootRequired"
    first = {"component": "SampledDataCtrlr", "variable": "TxUpdatedInterval"}
    wanted = [{**REMOTE, "value": "false"}, {**first, "value": "123"}]
    async with lab.station(
        version, automation=False, answers={"SetVariables": two, "ChangeConfiguration": one}
    ):
        outcome = await do(lab, "PUT", "stations/CS-1/variables", variables=wanted)
        assert (outcome["outcome"], outcome["status"]) == ("rejected", "Rejected")
        by_name = {
            v["standard_name"]: v for v in (await lab.get("stations/CS-1/variables"))["items"]
        }
        listed = await lab.get("stations/CS-1/variables", component="AuthCtrlr")
    assert {n: v["set_status"] for n, v in by_name.items()} == {
        "AuthCtrlr.AuthorizeRemoteStart": "Rejected",
        "SampledDataCtrlr.TxUpdatedInterval": "RebootRequired",
    }
    assert [v["set_value"] for v in by_name.values()].count("123") == 1
    assert all(v["value"] is None for v in by_name.values())
    assert [v["set_status"] for v in listed["items"]] == ["Rejected"]


async def test_s14_all_keys_are_read_without_a_list_and_kept(lab: Lab) -> None:
    keys: list[dict[str, Any]] = [
        {"key": "HeartbeatInterval", "readonly": False, "value": "300"},
        {"key": "Vendor.Own", "readonly": True},
    ]
    answer = {"configurationKey": keys, "unknownKey": ["NoSuchKey"]}
    async with lab.station(
        "1.6", automation=False, answers={"GetConfiguration": answer}
    ) as station:
        outcome = await do(lab, "POST", "stations/CS-1/variables/read")
        assert outcome["outcome"] == "accepted"
        assert (await station.called("GetConfiguration")).payload == {}
        shown = {v["variable"]: v for v in (await lab.get("stations/CS-1/variables"))["items"]}
    beat = shown["HeartbeatInterval"]
    assert (beat["value"], beat["is_readonly"]) == ("300", False)
    assert beat["standard_name"] == "OCPPCommCtrlr.HeartbeatInterval"
    assert (shown["Vendor.Own"]["value"], shown["Vendor.Own"]["is_readonly"]) == (None, True)
    assert shown["NoSuchKey"]["status"] == "UnknownVariable"


@pytest.mark.case("S16", "S26")
async def test_s16_a_key_is_changed_with_text_and_its_outcome_kept(lab: Lab) -> None:
    def answer(payload: dict[str, Any]) -> dict[str, Any]:
        return {"status": "Rejected" if payload["value"].startswith("-") else "Accepted"}

    async with lab.station(
        "1.6", automation=False, answers={"ChangeConfiguration": answer}
    ) as station:
        for value, outcome in (("60", "accepted"), ("-1", "rejected")):
            wanted = [{"variable": "MeterValueSampleInterval", "value": value}]
            found = await do(lab, "PUT", "stations/CS-1/variables", variables=wanted)
            assert found["outcome"] == outcome
            call = await station.called("ChangeConfiguration")
            assert call.payload == {"key": "MeterValueSampleInterval", "value": value}
        (shown,) = (await lab.get("stations/CS-1/variables"))["items"]
    assert (shown["value"], shown["set_value"], shown["set_status"]) == ("60", "-1", "Rejected")


async def test_a_secret_is_set_and_never_shown(lab: Lab, version: str) -> None:
    name = {"component": "SecurityCtrlr", "variable": "BasicAuthPassword"}
    secret = "0123456789abcdef0123"
    async with lab.station(version, automation=False):
        await do(lab, "PUT", "stations/CS-1/variables", variables=[{**name, "value": secret}])
        found = await lab.api.get("/api/v1/stations/CS-1/variables")
    assert found.json()["items"][0]["set_status"] == "Accepted"
    assert secret not in found.text


# --- reports -------------------------------------------------------------------------------------


async def test_b09_the_parts_of_an_inventory_become_one_report(lab: Lab) -> None:
    async with lab.station("2.0.1", automation=False) as station:
        asked = await do(lab, "POST", "stations/CS-1/reports", base="ConfigurationInventory")
        assert asked["outcome"] == "accepted"
        call = await station.called("GetBaseReport")
        request_id = call.payload["requestId"]
        assert call.payload == {"requestId": request_id, "reportBase": "ConfigurationInventory"}
        assert request_id >= 0
        key = asked["job"]["request_key"]
        for n in range(3):
            items = [reported("OCPPCommCtrlr", f"V{n}", str(n))]
            assert (await lab.get(f"jobs/{key}"))["state"] == ("running" if n else "accepted")
            assert (
                await station.call("NotifyReport", part(request_id, n, tbc=n < 2, items=items))
                == {}
            )
        job = await lab.get(f"jobs/{key}")
        shown = (await lab.get("stations/CS-1/variables"))["items"]
    assert job["state"] == "done"
    assert [p["seq_no"] for p in job["parts"]] == [0, 1, 2]
    assert {v["variable"]: v["value"] for v in shown} == {"V0": "0", "V1": "1", "V2": "2"}
    assert (shown[0]["unit"], shown[0]["min_limit"], shown[0]["max_limit"]) == ("s", 1, 3600)
    assert (shown[0]["mutability"], shown[0]["is_readonly"]) == ("ReadWrite", False)
    assert shown[0]["supports_monitoring"] is True


async def test_b10_forty_parts_make_a_whole_model_and_the_last_one_closes_it(lab: Lab) -> None:
    async with lab.station("2.0.1", automation=False) as station:
        asked = await do(lab, "POST", "stations/CS-1/reports")
        request_id = (await station.called("GetBaseReport")).payload["requestId"]
        for n in range(40):
            items = [reported(f"Component{n:02}", f"V{k}", str(k)) for k in range(3)]
            payload = part(request_id, n, tbc=n < 39, items=items)
            assert await station.call("NotifyReport", payload) == {}
            if n == 38:
                assert (await lab.get(f"jobs/{asked['job']['request_key']}"))["state"] == "running"
        job = await job_in(lab, asked["job"]["request_key"], "done")
        first = await lab.get("stations/CS-1/variables", limit=100)
        rest = await lab.get("stations/CS-1/variables", limit=100, cursor=first["cursor"])
    assert len(job["parts"]) == 40
    assert first["total"] == 120
    names = {(v["component"], v["variable"]) for v in first["items"] + rest["items"]}
    assert len(names) == 120


async def test_b19_parts_are_merged_in_any_order_and_an_unknown_request_is_logged(
    lab: Lab,
) -> None:
    async with lab.station("2.0.1", automation=False) as station:
        asked = await do(
            lab,
            "POST",
            "stations/CS-1/reports",
            criteria=["Problem"],
            variables=[{"component": "OCPPCommCtrlr"}],
        )
        call = await station.called("GetReport")
        assert call.payload["componentCriteria"] == ["Problem"]
        assert call.payload["componentVariable"] == [{"component": {"name": "OCPPCommCtrlr"}}]
        request_id, key = call.payload["requestId"], asked["job"]["request_key"]
        for n in (2, 0, 0):
            items = [reported("OCPPCommCtrlr", f"V{n}", str(n))]
            payload = part(request_id, n, tbc=n < 2, items=items)
            assert await station.call("NotifyReport", payload) == {}
            assert (await lab.get(f"jobs/{key}"))["state"] == "running"
        items = [reported("OCPPCommCtrlr", "V1", "1")]
        assert await station.call("NotifyReport", part(request_id, 1, tbc=True, items=items)) == {}
        job = await lab.get(f"jobs/{key}")
        assert job["state"] == "done"
        assert [p["seq_no"] for p in job["parts"]] == [0, 1, 2]
        unknown = part(4711, 0, tbc=False, items=[reported("Other", "V9", "9")])
        assert await station.call("NotifyReport", unknown) == {}
        values = (await lab.get("stations/CS-1/variables"))["items"]
        kinds = [e.event for e in await lab.world.events("report on unknown request")]
    assert [e.detail["request_id"] for e in kinds] == [4711]
    assert {v["variable"] for v in values} == {"V0", "V1", "V2", "V9"}


async def test_what_a_station_tells_while_it_is_removed_is_dropped(lab: Lab) -> None:
    world, now = lab.world, lab.world.clock.now()
    await world.register("CS-1")
    call = RawCall(station_id="CS-1", action="GetVariables", payload_json="{}")
    command_id = await world.store.write(
        lambda tx: commands.insert_command(
            tx, "CS-1", kind=call.action, payload=call.payload_json, asked_by="test", at=now
        )
    )
    assert (await lab.api.delete("/api/v1/stations/CS-1")).status_code == 204
    fact = VariableFact(name=VariableName(component="C", variable="V"), status="Accepted")
    told = CommandResult(outcome=Outcome.ACCEPTED, facts=(fact,))
    devices = world.system.waiting.devices
    note = partial(devices.note_ended, command=replace(call, command_id=command_id))
    await world.store.write(lambda tx: note(tx, result=told, at=now))
    (record,) = await world.commands("CS-1", "GetVariables")
    assert record.outcome == "accepted"


async def test_a_station_that_speaks_while_it_is_removed_is_told_and_nothing_fails(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    reading = {"timestamp": "2026-03-02T12:00:00Z", "sampledValue": [{"value": 1.0}]}
    about = {"component": {"name": "C"}, "variable": {"name": "V"}}
    report = {
        "requestId": 1,
        "seqNo": 0,
        "generatedAt": "2026-03-02T12:00:00Z",
        "reportData": [{**about, "variableAttribute": [{"value": "1"}]}],
    }
    said = {
        "NotifyReport": report,
        "MeterValues": {"evseId": 1, "meterValue": [reading]},
        "StatusNotification": {
            "timestamp": "2026-03-02T12:00:00Z",
            "connectorStatus": "Available",
            "evseId": 1,
            "connectorId": 1,
        },
        "BootNotification": {
            "reason": "PowerUp",
            "chargingStation": {"vendorName": "V", "model": "M"},
        },
    }
    async with lab.station("2.0.1") as station:
        # Another node's process removes it: its link here is still up.
        await lab.world.store.write(lambda tx: removal.remove_station(tx, "CS-1"))
        for action, payload in said.items():
            with contextlib.suppress(Refused):
                await station.call(action, payload)
        with pytest.raises(Refused) as refused:
            await station.call("BootNotification", said["BootNotification"])
    assert refused.value.code == "SecurityError"
    assert [r.getMessage() for r in caplog.records if r.levelname == "ERROR"] == []
