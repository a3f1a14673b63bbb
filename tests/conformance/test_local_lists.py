"""Block D and the 1.6 rows S28-S31 of the conformance cases: local authorization lists."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from csms.core.model import Assurance, TokenRecord
from tests.conformance.conftest import Lab
from tests.conformance.raw import Answer, CallError, RawStation
from tests.conformance.story import now_text
from tests.scenarios.world import card_of, did_of


class ListedStation:
    """A station's list as it keeps it: it says its version, and takes updates that fit it."""

    def __init__(self, version: str, *, limits: Sequence[tuple[str, str]] = ()) -> None:
        self.ocpp = version
        self.version = 0
        self.held: dict[str, Any] = {}
        self.limits = dict(limits)
        self.refuses: list[str] = []
        """Words to answer the next updates with."""

    @property
    def answers(self) -> dict[str, Answer]:
        """What it answers."""
        return {
            "GetLocalListVersion": lambda _: {self.number: self.version},
            "SendLocalList": self.take,
            "GetConfiguration": self.configuration,
            "GetVariables": self.variables,
        }

    @property
    def number(self) -> str:
        return "listVersion" if self.ocpp == "1.6" else "versionNumber"

    def take(self, payload: dict[str, Any]) -> dict[str, str]:
        if self.refuses:
            return {"status": self.refuses.pop(0)}
        given = payload["localAuthorizationList"]
        if payload["updateType"] == "Full":
            self.held = {}
        elif payload[self.number] <= self.version:
            return {"status": "VersionMismatch"}
        for entry in given:
            name = entry["idTag"] if self.ocpp == "1.6" else entry["idToken"]["idToken"]
            info = entry.get("idTagInfo" if self.ocpp == "1.6" else "idTokenInfo")
            if info is None:
                del self.held[name]
            else:
                self.held[name] = info
        self.version = payload[self.number]
        return {"status": "Accepted"}

    def configuration(self, payload: dict[str, Any]) -> dict[str, Any]:
        known = [
            {"key": k, "readonly": True, "value": self.limits[k]}
            for k in payload["key"]
            if k in self.limits
        ]
        return {
            "configurationKey": known,
            "unknownKey": [k for k in payload["key"] if k not in self.limits],
        }

    def variables(self, payload: dict[str, Any]) -> dict[str, Any]:
        found = []
        for item in payload["getVariableData"]:
            value = self.limits.get(item["variable"]["name"])
            status = {"attributeStatus": "UnknownVariable"}
            if value is not None:
                status = {"attributeStatus": "Accepted", "attributeValue": value}
            found.append(item | status)
        return {"getVariableResult": found}


@pytest.fixture
def lab(lab: Lab) -> Lab:
    """A lab whose lists are brought into step by the tests alone: no round of the job between."""
    lab.world.system.jobs.stop()
    return lab


async def enrolled(lab: Lab, count: int) -> list[str]:
    """Enrol drivers with a card each."""
    return [await lab.world.driver(n) for n in range(1, count + 1)]


async def sync(lab: Lab, **query: Any) -> dict[str, Any]:
    """Have people looked at anew and every list brought into step; return the station's."""
    await lab.world.system.local_lists.refresh()
    if query:
        done = await lab.api.post("/api/v1/stations/CS-1/local-list/sync", params=query)
        assert done.is_success, done.text
    found: dict[str, Any] = await lab.get("stations/CS-1/local-list")
    return found


def sent(station: RawStation) -> list[dict[str, Any]]:
    return [c.payload for c in station.seen("SendLocalList")]


@pytest.mark.case("D01", "D04", "S28", "S30")
async def test_d01_d04_s28_s30_an_empty_station_gets_the_whole_list(lab: Lab, version: str) -> None:
    cards = await enrolled(lab, 3)
    listed = ListedStation(version)
    async with lab.station(version, answers=listed.answers) as station:
        shown = await sync(lab)
        (update,) = sent(station)
        assert update["updateType"] == "Full"
        assert update[listed.number] > 0
        info = "idTagInfo" if version == "1.6" else "idTokenInfo"
        expiry = "expiryDate" if version == "1.6" else "cacheExpiryDateTime"
        assert len(update["localAuthorizationList"]) == 6, "a card and a name for each driver"
        for entry in update["localAuthorizationList"]:
            assert entry[info]["status"] == "Accepted"
            assert entry[info][expiry].endswith("Z")
        assert set(cards) < set(listed.held)
        text = json.dumps(update)
        assert "did:" not in text, "no DID reaches a station"
        assert (shown["version"], shown["state"]) == (listed.version, "in step")
        assert {e["value"] for e in shown["entries"]} == set(listed.held)
        await sync(lab)
        assert len(sent(station)) == 1, "nothing is sent while nothing changed"


@pytest.mark.case("D02", "D03", "S31")
async def test_d02_d03_s31_changes_go_out_as_a_differential_list(lab: Lab, version: str) -> None:
    cards = await enrolled(lab, 3)
    listed = ListedStation(version)
    async with lab.station(version, answers=listed.answers) as station:
        await sync(lab)
        before = listed.version
        new = await lab.world.driver(4)
        enrolment = lab.world.system.enrolment
        await enrolment.remove_token(cards[0], kind="ISO14443", by="test")
        await enrolment.put_tokens(
            [TokenRecord(value=cards[1], kind="ISO14443", did=did_of(2), state="blocked")],
            by="test",
        )
        await sync(lab)
        _, update = sent(station)
        assert update["updateType"] == "Differential"
        assert update[listed.number] > before
        name = "idTag" if version == "1.6" else "idToken"
        info = "idTagInfo" if version == "1.6" else "idTokenInfo"
        by_name = {
            e[name] if version == "1.6" else e[name]["idToken"]: e.get(info)
            for e in update["localAuthorizationList"]
        }
        assert by_name.pop(cards[0]) is None, "an entry without its info means removal"
        assert by_name.pop(cards[1])["status"] == "Blocked"
        assert by_name.pop(new)["status"] == "Accepted"
        assert len(by_name) == 1, "and the new driver's other name; nothing else changed"
        assert cards[0] not in listed.held
        await station.called("ClearCache")


async def test_n20_a_customer_who_is_forgotten_leaves_the_list_too(lab: Lab) -> None:
    gone, stays = await enrolled(lab, 2)
    listed = ListedStation("2.0.1")
    async with lab.station("2.0.1", answers=listed.answers) as station:
        await sync(lab)
        before = listed.version
        assert {gone, stays} < set(listed.held)
        body = {"id_token": gone, "id_token_kind": "ISO14443", "report": True, "clear": True}
        asked = await lab.api.post("/api/v1/stations/CS-1/customer-information", json=body)
        assert asked.json()["outcome"] == "accepted"
        call = (await station.called("CustomerInformation")).payload
        assert (call["report"], call["clear"]) == (True, True)
        assert call["idToken"] == {"idToken": gone, "type": "ISO14443"}
        told = {
            "requestId": call["requestId"],
            "generatedAt": now_text(),
            "seqNo": 0,
            "tbc": False,
            "data": "3 sessions",
        }
        assert await station.call("NotifyCustomerInformation", told) == {}
        # A station cannot take a token off its list by itself: the operator withdraws it.
        left = await lab.api.delete(f"/api/v1/tokens/{gone}", params={"kind": "ISO14443"})
        assert left.is_success, left.text
        await sync(lab)
        update = sent(station)[-1]
        listed_again = [
            e["idToken"]["idToken"]
            for e in update["localAuthorizationList"]
            if update["updateType"] == "Full" or "idTokenInfo" in e
        ]
        assert gone not in listed_again
        assert update["versionNumber"] > before
        assert gone not in listed.held
        assert stays in listed.held


@pytest.mark.parametrize("word", ["VersionMismatch", "Failed"])
@pytest.mark.case("D05")
async def test_d05_after_a_refusal_the_list_goes_out_whole(
    lab: Lab, version: str, word: str
) -> None:
    await enrolled(lab, 2)
    listed = ListedStation(version)
    async with lab.station(version, answers=listed.answers) as station:
        await sync(lab)
        listed.refuses = [word]
        await lab.world.driver(3)
        shown = await sync(lab)
        _, refused, whole = sent(station)
        assert refused["updateType"] == "Differential"
        assert whole["updateType"] == "Full"
        assert whole[listed.number] > refused[listed.number]
        assert len(whole["localAuthorizationList"]) == 6
        assert shown["state"] == "in step"


@pytest.mark.case("S29")
async def test_s29_a_refused_list_is_an_outcome_and_is_sent_whole_later(
    lab: Lab, version: str
) -> None:
    await enrolled(lab, 1)
    listed = ListedStation(version)
    listed.refuses = ["Failed"]
    async with lab.station(version, answers=listed.answers) as station:
        shown = await sync(lab)
        assert (shown["state"], shown["detail"]) == ("refused", "Failed")
        await sync(lab)
        assert len(sent(station)) == 1, "not again at once"
        shown = await sync(lab, full="true")
        assert shown["state"] == "in step"
        first, second = sent(station)
        assert second["updateType"] == "Full"
        assert second[listed.number] > first[listed.number]


async def test_d06_a_long_list_is_split_within_the_limits_that_the_station_reports(
    lab: Lab, version: str
) -> None:
    limits = (
        [("LocalAuthListMaxLength", "5000"), ("SendLocalListMaxLength", "100")]
        if version == "1.6"
        else [("Entries", "5000"), ("ItemsPerMessage", "100"), ("BytesPerMessage", "8192")]
    )
    await lab.world.driver(1)
    await lab.world.system.enrolment.put_tokens(
        [TokenRecord(value=f"04{n:012X}", kind="ISO14443", did=did_of(1)) for n in range(2000)],
        by="test",
    )
    listed = ListedStation(version, limits=limits)
    async with lab.station(version, answers=listed.answers) as station:
        shown = await sync(lab)
        updates = sent(station)
        assert [u["updateType"] for u in updates] == ["Full"] + ["Differential"] * (
            len(updates) - 1
        )
        versions = [u[listed.number] for u in updates]
        assert versions == sorted(set(versions))
        for update in updates:
            assert len(update["localAuthorizationList"]) <= 100
            if version == "2.0.1":
                assert len(json.dumps(update, separators=(",", ":"))) <= 8192
        assert len(listed.held) == 2002
        assert shown["limits"]["items_per_message"] == 100


async def test_a_short_list_holds_those_with_priority(lab: Lab) -> None:
    await enrolled(lab, 3)
    vip = await lab.world.driver(4, priority=5)
    await lab.world.system.enrolment.put_tokens(
        [TokenRecord(value=vip, kind="ISO14443", did=did_of(4), assurance=Assurance.A2)],
        by="test",
    )
    listed = ListedStation("1.6", limits=[("LocalAuthListMaxLength", "2")])
    async with lab.station("1.6", answers=listed.answers):
        await sync(lab)
        assert len(listed.held) == 2
        assert vip in listed.held


async def test_a_list_of_somebody_else_is_replaced(lab: Lab, version: str) -> None:
    await enrolled(lab, 1)
    listed = ListedStation(version)
    listed.version, listed.held = 40, {"SOMEBODY": {}}
    async with lab.station(version, answers=listed.answers) as station:
        await sync(lab)
        (update,) = sent(station)
        assert (update["updateType"], update[listed.number]) == ("Full", 41)
        assert "SOMEBODY" not in listed.held


@pytest.mark.parametrize("answer", [{"listVersion": -1}, CallError("NotSupported")])
async def test_a_station_without_lists_is_left_alone(lab: Lab, answer: Any) -> None:
    await enrolled(lab, 1)
    async with lab.station("1.6", answers={"GetLocalListVersion": answer}) as station:
        shown = await sync(lab)
        assert shown["state"] == "not supported"
        await sync(lab)
        assert len(station.seen("GetLocalListVersion")) == 1
        assert sent(station) == []


async def test_with_automation_off_no_list_is_sent(lab: Lab) -> None:
    await enrolled(lab, 1)
    async with lab.station("1.6", automation=False) as station:
        await lab.world.system.local_lists.refresh()
        await lab.command("ClearCache", {})
        assert [c.action for c in station.calls] == ["ClearCache"]


async def test_only_those_who_may_charge_here_are_listed(lab: Lab) -> None:
    here = await lab.world.driver(1, allowed_sites=("main",))
    await lab.world.driver(2, allowed_sites=("elsewhere",))
    await lab.world.driver(3, state="disabled")
    listed = ListedStation("2.0.1")
    async with lab.station("2.0.1", answers=listed.answers):
        await sync(lab)
        assert here in listed.held
        assert card_of(2) not in listed.held
        accepted = [i for i in listed.held.values() if i["status"] == "Accepted"]
        assert len(accepted) == 2
