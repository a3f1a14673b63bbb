"""Logs (N12-N14, N21, S34, S52): jobs with the file that comes of them, and what S42 triggers."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from csms.settings import TransferSettings
from tests.conformance.conftest import Lab
from tests.conformance.devices import do, job_in, lab_with, when
from tests.scenarios.world import eventually

LOG = b"first line\n" * 1000


@pytest.fixture
async def lab(sqlite_url: str, tmp_path: Path) -> Any:
    given = TransferSettings(folder=tmp_path / "files", max_upload_bytes=20_000)
    async with lab_with(sqlite_url, transfers=given) as found:
        yield found


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def evil_ones(folder: Path) -> list[Path]:
    return [*folder.rglob("*evil*"), *folder.parent.glob("*evil*")]


async def put(url: str, content: bytes = LOG, **given: Any) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.put(url, content=content, **given)


async def collect(lab: Lab, **body: Any) -> dict[str, Any]:
    return await do(lab, "POST", "stations/CS-1/logs", **body)


@pytest.mark.case("N12", "N13", "S52")
@pytest.mark.parametrize(
    ("version", "log_type"),
    [("2.0.1", "DiagnosticsLog"), ("2.0.1", "SecurityLog"), ("1.6", "SecurityLog")],
)
async def test_n12_a_log_is_uploaded_to_us_and_linked_to_its_job(
    lab: Lab, version: str, log_type: str
) -> None:
    answer = {"status": "Accepted", "filename": "cs-1.log"}
    async with lab.station(version, automation=False, answers={"GetLog": answer}) as station:
        asked = await collect(lab, log_type=log_type, retries=2, retry_interval_s=60)
        assert asked["outcome"] == "accepted"
        payload = (await station.called("GetLog")).payload
        assert payload["logType"] == log_type
        assert (payload["retries"], payload["retryInterval"]) == (2, 60)
        url, key = payload["log"]["remoteLocation"], asked["job"]["request_key"]
        for word in ("Uploading", "Uploaded"):
            if word == "Uploaded":
                assert (await put(f"{url}/cs-1.log")).status_code == 201
            given = {"status": word, "requestId": payload["requestId"]}
            assert await station.call("LogStatusNotification", given) == {}
        job = await job_in(lab, key, "done")
        assert [s["status"] for s in job["steps"]] == ["Uploading", "Uploaded"]
        assert (job["file_name"], job["file_bytes"], job["has_file"]) == ("cs-1.log", 11000, True)
        file = await lab.api.get(f"/api/v1/jobs/{key}/file")
        commands = await lab.api.get("/api/v1/stations/CS-1/commands")
    assert file.content == LOG
    assert file.headers["content-disposition"].startswith("attachment")
    # Whoever reads along must not be able to put a file there.
    token = url.rpartition("/")[2]
    assert token not in str(job)
    assert token not in commands.text


async def test_s34_diagnostics_of_1_6_are_uploaded_and_linked_to_their_job(lab: Lab) -> None:
    answer = {"fileName": "diagnostics.tgz"}
    async with lab.station("1.6", automation=False, answers={"GetDiagnostics": answer}) as station:
        asked = await collect(lab, oldest_at="2026-03-01T00:00:00+01:00")
        payload = (await station.called("GetDiagnostics")).payload
        assert payload["startTime"] == "2026-02-28T23:00:00Z"
        key = asked["job"]["request_key"]
        assert asked["job"]["file_name"] == "diagnostics.tgz"
        assert await station.call("DiagnosticsStatusNotification", {"status": "Uploading"}) == {}
        assert (await put(payload["location"])).status_code == 201
        assert await station.call("DiagnosticsStatusNotification", {"status": "Uploaded"}) == {}
        job = await job_in(lab, key, "done")
        file = await lab.api.get(f"/api/v1/jobs/{key}/file")
    assert (job["file_name"], job["file_bytes"]) == ("diagnostics.tgz", len(LOG))
    assert file.content == LOG


async def test_n14_a_log_that_is_refused_is_an_outcome(lab: Lab, version: str) -> None:
    async with lab.station(version, automation=False, answers={"GetLog": {"status": "Rejected"}}):
        asked = await collect(lab, log_type="SecurityLog")
        assert (asked["outcome"], asked["status"]) == ("rejected", "Rejected")
        job = await lab.get(f"jobs/{asked['job']['request_key']}")
    assert (job["state"], job["status"], job["has_file"]) == ("failed", "Rejected", False)


async def test_n21_the_place_for_a_file_takes_one_small_file_once_and_not_for_long(
    lab: Lab, tmp_path: Path
) -> None:
    async with lab.station("2.0.1", automation=False) as station:
        await collect(lab)
        url = (await station.called("GetLog")).payload["log"]["remoteLocation"]
        base = url.rpartition("/")[0]
        assert (await put(url, b"x" * 20_001)).status_code == 413
        assert (await put(f"{base}/{'A' * 43}")).status_code == 404
        for name in ("..%2F..%2Fevil", "../evil", "a/b", ".hidden", "%2e%2e", "a%00b"):
            assert (await put(f"{url}/{name}")).status_code in (404, 422), name
        # What failed leaves the place open; two at once are one.
        both = await asyncio.gather(put(url, b"one"), put(url, b"two"))
        assert sorted(r.status_code for r in both) == [201, 404]
        assert (await put(url)).status_code == 404
        await collect(lab)
        late = (await station.called("GetLog")).payload["log"]["remoteLocation"]
        assert lab.world.system.care.logs.options.open_for <= timedelta(hours=1)
        # The system's clock is stepped over the hour: the place is gone.
        lab.world.clock.follow(datetime.now(UTC) + timedelta(minutes=61))
        assert (await put(late)).status_code == 404
        found = names(tmp_path / "files")
    assert len(found) == 1
    assert found[0].endswith("-log")
    assert evil_ones(tmp_path) == []


async def test_a_station_that_hangs_up_in_the_middle_of_its_file_may_send_it_again(
    lab: Lab, tmp_path: Path
) -> None:
    async with lab.station("2.0.1", automation=False) as station:
        await collect(lab)
        url = httpx.URL((await station.called("GetLog")).payload["log"]["remoteLocation"])
        _, writer = await asyncio.open_connection(url.host, url.port)
        head = f"PUT {url.path} HTTP/1.1\r\nHost: {url.host}\r\nContent-Length: {len(LOG)}\r\n\r\n"
        writer.write(head.encode() + LOG[:100])
        await writer.drain()
        await eventually(lambda: list(tmp_path.rglob("*.part")), "nothing was begun")
        writer.close()
        await writer.wait_closed()
        await eventually(lambda: not names(tmp_path / "files"), "half a file was kept")

        async def is_taken() -> bool:
            return (await put(str(url))).status_code == 201

        await eventually(is_taken, "the place is closed")
    (kept,) = (tmp_path / "files").iterdir()
    assert kept.read_bytes() == LOG


async def test_a_file_goes_when_its_time_is_over_and_its_job_stays(
    lab: Lab, tmp_path: Path
) -> None:
    async with lab.station("2.0.1", automation=False) as station:
        asked = await collect(lab)
        url = (await station.called("GetLog")).payload["log"]["remoteLocation"]
        assert (await put(url)).status_code == 201
        told = {"status": "Uploaded", "requestId": asked["job"]["request_key"]}
        assert await station.call("LogStatusNotification", told) == {}
        job = await job_in(lab, asked["job"]["request_key"], "done")
    logs = lab.world.system.care.logs
    await logs.purge()
    assert len(names(tmp_path / "files")) == 1
    lab.world.clock.follow(datetime.now(UTC) + timedelta(days=91))
    await logs.purge()
    assert names(tmp_path / "files") == []
    kept = await lab.get(f"jobs/{job['request_key']}")
    assert (kept["state"], kept["has_file"], kept["file_bytes"]) == ("done", False, len(LOG))


async def test_s42_what_is_triggered_is_answered_and_idle_invents_no_job(lab: Lab) -> None:
    async with lab.station("1.6", automation=False) as station:
        sample = {"timestamp": when(), "sampledValue": [{"value": "10"}]}
        follow: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
            "MeterValues": ({"connectorId": 1}, {"connectorId": 1, "meterValue": [sample]}),
            "Heartbeat": ({}, {}),
            "StatusNotification": (
                {"connectorId": 1},
                {"connectorId": 1, "status": "Available", "errorCode": "NoError"},
            ),
            "DiagnosticsStatusNotification": ({}, {"status": "Idle"}),
            "FirmwareStatusNotification": ({}, {"status": "Idle"}),
        }
        for message, (where, payload) in follow.items():
            asked = {"requestedMessage": message, **where}
            outcome = await lab.command("TriggerMessage", asked)
            assert outcome["outcome"] == "accepted"
            assert (await station.called("TriggerMessage")).payload == asked
            answer = await station.call(message, payload)
            assert answer.keys() == ({"currentTime"} if message == "Heartbeat" else set())
        jobs = await lab.get("jobs")
        shown = await lab.get("stations/CS-1")
    assert jobs["items"] == []
    assert shown["evses"][0]["status"] == "Available"
    assert await lab.world.events("report on unknown request") == []
