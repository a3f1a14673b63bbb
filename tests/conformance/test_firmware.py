"""Block L of the conformance cases and the firmware rows of 1.6: jobs, their states, their URLs."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from csms.core.units import slot_start
from csms.service.cases import Surroundings, planning_case, snapshot
from csms.settings import TransferSettings
from tests.conformance.conftest import Lab
from tests.conformance.devices import charge, do, end, evse, job_in, lab_with, status, when
from tests.conformance.raw import RawStation
from tests.scenarios.world import eventually

URL = "https://192.0.2.7/fw/2.0.bin"
TAKES = {"UpdateFirmware": {"status": "Accepted"}}
SIGNED = {"signing_certificate": "CERT", "signature": "SIG"}


async def update(lab: Lab, *, code: int | None = None, **body: Any) -> dict[str, Any]:
    given = {"location": URL, **body}
    return await do(lab, "POST", "stations/CS-1/firmware", status=code, **given)


async def report(station: RawStation, request_id: int | None, *statuses: str) -> None:
    for word in statuses:
        given = {} if request_id is None else {"requestId": request_id}
        answer = await station.call("FirmwareStatusNotification", {"status": word, **given})
        assert answer == {}


async def sent(station: RawStation) -> dict[str, Any]:
    """Return the update that the station was sent, its place and id wherever they stand."""
    return (await station.called("UpdateFirmware")).payload


def words(job: dict[str, Any]) -> list[str]:
    return [step["status"] for step in job["steps"]]


async def test_l01_an_update_is_followed_to_its_end_and_the_boot_tells_the_version(
    lab: Lab,
) -> None:
    async with lab.station("2.0.1", automation=False, answers=TAKES) as station:
        asked = await update(lab, **SIGNED)
        assert (asked["outcome"], asked["status"]) == ("accepted", "Accepted")
        payload = await sent(station)
        request_id, key = payload["requestId"], asked["job"]["request_key"]
        assert asked["job"]["request_id"] == request_id
        firmware = payload["firmware"]
        assert (firmware["location"], firmware["signature"]) == (URL, "SIG")
        assert firmware["signingCertificate"] == "CERT"
        assert firmware["retrieveDateTime"].endswith("Z")
        before = 0.0
        for word in ("Downloading", "Downloaded", "SignatureVerified", "Installing"):
            await report(station, request_id, word)
            job = await lab.get(f"jobs/{key}")
            assert (job["state"], job["status"]) == ("running", word)
            assert job["progress_share"] > before
            before = job["progress_share"]
        await report(station, request_id, "InstallRebooting")
        await station.boot(firmwareVersion="2.0", reason="FirmwareUpdate")
        await report(station, request_id, "Installed")
        job = await job_in(lab, key, "done")
        shown = await lab.get("stations/CS-1")
    assert words(job) == [
        "Downloading",
        "Downloaded",
        "SignatureVerified",
        "Installing",
        "InstallRebooting",
        "Installed",
    ]
    assert (job["status"], job["progress_share"]) == ("Installed", 1.0)
    assert shown["firmware_version"] == "2.0"


async def test_l02_a_time_to_install_is_sent_as_utc_and_waited_for(lab: Lab) -> None:
    install_at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    local = install_at.astimezone().isoformat()
    async with lab.station("2.0.1", automation=False, answers=TAKES) as station:
        asked = await update(lab, install_at=local, **SIGNED)
        payload = await sent(station)
        told = payload["firmware"]["installDateTime"]
        assert told == install_at.isoformat().replace("+00:00", "Z")
        key, request_id = asked["job"]["request_key"], payload["requestId"]
        await report(station, request_id, "Downloading", "Downloaded", "SignatureVerified")
        await report(station, request_id, "InstallScheduled")
        assert (await lab.get(f"jobs/{key}"))["status"] == "InstallScheduled"
        await report(station, request_id, "Installing")
        await station.boot(firmwareVersion="2.0", reason="FirmwareUpdate")
        await report(station, request_id, "Installed")
        await job_in(lab, key, "done")


@pytest.mark.case("L03", "L04")
@pytest.mark.parametrize("word", ["RevokedCertificate", "InvalidCertificate"])
async def test_l03_a_certificate_that_is_refused_fails_the_job_with_its_reason(
    lab: Lab, word: str
) -> None:
    async with lab.station(
        "2.0.1", automation=False, answers={"UpdateFirmware": {"status": word}}
    ) as station:
        asked = await update(lab, **SIGNED)
        assert (asked["outcome"], asked["status"]) == ("rejected", word)
        event = {"type": "InvalidFirmwareSigningCertificate", "timestamp": when()}
        assert await station.call("SecurityEventNotification", event) == {}
        job = await lab.get(f"jobs/{asked['job']['request_key']}")
        records = await lab.get("stations/CS-1/records", action="SecurityEventNotification")
    assert (job["state"], job["status"]) == ("failed", word)
    assert "InvalidFirmwareSigningCertificate" in records["items"][0]["payload"]


async def test_l05_a_failed_download_fails_the_job_and_nothing_is_tried_again_unasked(
    lab: Lab,
) -> None:
    async with lab.station("2.0.1", automation=False, answers=TAKES) as station:
        asked = await update(lab, **SIGNED)
        request_id = (await sent(station))["requestId"]
        await report(station, request_id, "Downloading", "DownloadFailed")
        job = await lab.get(f"jobs/{asked['job']['request_key']}")
        assert (job["state"], job["status"]) == ("failed", "DownloadFailed")
        again = await update(lab, **SIGNED)
        assert len(station.seen("UpdateFirmware")) == 2
        assert again["job"]["request_id"] != request_id


@pytest.mark.case("L06", "S32", "S33")
@pytest.mark.parametrize("last", ["Installed", "InstallationFailed"])
async def test_l06_an_installation_ends_well_or_not_and_the_station_stays_usable(
    lab: Lab, version: str, last: str
) -> None:
    async with lab.station(version, automation=False) as station:
        answered = {} if version == "1.6" else {"status": "Accepted"}
        station.answers["UpdateFirmware"] = answered
        asked = await update(lab)
        payload = await sent(station)
        request_id = payload.get("requestId")
        if version == "1.6":
            assert payload["location"] == URL
            assert payload["retrieveDate"].endswith("Z")
        key = asked["job"]["request_key"]
        await report(station, request_id, "Downloading", "Downloaded")
        assert (await lab.get(f"jobs/{key}"))["state"] == "running"
        await status(station, "Unavailable")
        await report(station, request_id, "Installing")
        await station.boot(firmwareVersion="2.0" if last == "Installed" else "1.0")
        await status(station, "Available")
        await report(station, request_id, last)
        job = await lab.get(f"jobs/{key}")
        assert (job["state"], job["status"]) == (
            "done" if last == "Installed" else "failed",
            last,
        )
        assert words(job) == ["Downloading", "Downloaded", "Installing", last]
        assert (await evse(lab))["status"] == "Available"
        assert await charge(lab, station)
        version_now = (await lab.get("stations/CS-1"))["firmware_version"]
    assert version_now == ("2.0" if last == "Installed" else "1.0")


async def test_l07_a_second_update_cancels_the_first(lab: Lab) -> None:
    async with lab.station("2.0.1", automation=False, answers=TAKES) as station:
        first = await update(lab, **SIGNED)
        first_id = (await sent(station))["requestId"]
        await report(station, first_id, "Downloading")
        station.answers["UpdateFirmware"] = {"status": "AcceptedCanceled"}
        second = await update(lab, **SIGNED)
        assert (second["outcome"], second["status"]) == ("accepted", "AcceptedCanceled")
        second_id = (await sent(station))["requestId"]
        await report(station, second_id, "Downloading", "Downloaded", "Installing", "Installed")
        jobs = [await lab.get(f"jobs/{a['job']['request_key']}") for a in (first, second)]
    assert [(j["state"], j["status"]) for j in jobs] == [
        ("cancelled", "AcceptedCanceled"),
        ("done", "Installed"),
    ]


async def test_l08_a_download_that_waits_for_a_session_leaves_it_undisturbed(lab: Lab) -> None:
    async with lab.station("2.0.1", automation=False, evses=2, answers=TAKES) as station:
        transaction_id = await charge(lab, station)
        asked = await update(lab, **SIGNED)
        request_id = (await sent(station))["requestId"]
        await report(station, request_id, "DownloadScheduled")
        await status(station, "Unavailable", 2)
        (session,) = await lab.world.sessions()
        assert session.ended_at is None
        assert (await evse(lab, 2))["status"] == "Unavailable"
        wanted = "CS-1 updates its firmware (DownloadScheduled): EVSE 2 takes nobody"
        await eventually(lambda: noted(lab, wanted), "the plan does not know the outage")
        # Nobody can arrive for an hour: the room that was kept for arrivals is free till then.
        assert await kept_for_arrivals(lab) == {0.0, 30.0}
        await end(station, transaction_id, "EVDisconnected")
        await report(station, request_id, "Downloading", "Downloaded", "Installing", "Installed")
        await job_in(lab, asked["job"]["request_key"], "done")
        await status(station, "Available", 2)
        await eventually(lambda: not_noted(lab, wanted), "the plan does not know its end")
        assert await kept_for_arrivals(lab) == {30.0}
        (session,) = await lab.world.sessions()
    assert (session.stop_reason, session.energy_wh) == ("EVDisconnected", 2000.0)


async def noted(lab: Lab, note: str) -> bool:
    plan = await lab.world.plan()
    return plan is not None and note in plan[0].notes


async def not_noted(lab: Lab, note: str) -> bool:
    return not await noted(lab, note)


async def kept_for_arrivals(lab: Lab) -> set[float]:
    """Return the headroom of the next five hours where the forecast wants 30 kW in each."""
    now = lab.world.clock.now()
    known = await lab.world.store.read(
        lambda tx: snapshot(tx, "main", now=now, horizon_h=4.0, carbon_id="default")
    )
    wanted = {slot_start(now) + n * timedelta(minutes=15): 30.0 for n in range(48)}
    given = Surroundings(reserved_kw=wanted)
    case = planning_case(known, given, now=now, horizon_h=4.0, slot_s=900)
    # In the slot that runs nothing is kept: who arrives in it is planned for at once.
    return set(case.reserved_kw[1:])


async def test_l09_an_image_that_does_not_match_its_checksum_is_not_published(lab: Lab) -> None:
    async with lab.station("2.0.1", automation=False, answers=TAKES) as station:
        asked = await do(
            lab, "POST", "stations/CS-1/firmware/publish", location=URL, checksum="0" * 32
        )
        payload = (await station.called("PublishFirmware")).payload
        assert (payload["location"], payload["checksum"]) == (URL, "0" * 32)
        for word in ("Downloading", "Downloaded", "InvalidChecksum"):
            answer = await station.call(
                "PublishFirmwareStatusNotification",
                {"status": word, "requestId": payload["requestId"]},
            )
            assert answer == {}
        job = await lab.get(f"jobs/{asked['job']['request_key']}")
    assert (job["state"], job["status"]) == ("failed", "InvalidChecksum")


async def test_l10_an_image_is_unpublished_with_its_outcome(lab: Lab) -> None:
    async with lab.station("2.0.1", automation=False, answers=TAKES) as station:
        found = await lab.api.delete(
            "/api/v1/stations/CS-1/firmware/publish", params={"checksum": "0" * 32}
        )
        assert found.json()["status"] == "Unpublished"
        assert (await station.called("UnpublishFirmware")).payload == {"checksum": "0" * 32}
        page = await lab.get("stations/CS-1/commands", action="UnpublishFirmware")
    assert page["items"][0]["status"] == "Unpublished"


# --- where an image may come from ----------------------------------------------------------------

REFUSED = (
    "file:///etc/passwd",
    "ftp://user:secret@192.0.2.7/fw.bin",
    "http://192.0.2.7/fw.bin",
    "https://user:secret@192.0.2.7/fw.bin",
    "https://127.0.0.1/fw.bin",
    "https://[::1]/fw.bin",
    "https://[::ffff:127.0.0.1]/fw.bin",
    "https://169.254.169.254/latest",
    "https://[fe80::1]/fw.bin",
    "https://0.0.0.0/fw.bin",
    "https://localhost/fw.bin",
)


@pytest.mark.parametrize("url", REFUSED)
async def test_a_station_is_not_sent_to_such_a_place(lab: Lab, url: str) -> None:
    async with lab.station("2.0.1", automation=False, answers=TAKES) as station:
        problem = await update(lab, code=422, location=url)
        await do(lab, "POST", "stations/CS-1/logs", status=422, location=url)
        order = {"stations": ["CS-1"], "firmware": {"location": url}}
        await do(lab, "POST", "campaigns/firmware", status=422, **order)
        assert station.seen("UpdateFirmware") == []
    assert "secret" not in str(problem)


async def test_l11_what_is_listed_is_sent_and_its_login_is_masked_everywhere(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = "ftp://user:t0psecret@127.0.0.1/fw/2.0.bin"
    given = TransferSettings(
        allowed_urls=("ftp://127.0.0.1/fw",), schemes=("https", "http"), allow_unresolved=True
    )
    async with lab_with(sqlite_url, transfers=given) as lab:
        async with lab.station("2.0.1", automation=False, answers=TAKES) as station:
            asked = await update(lab, location=url)
            assert (await sent(station))["firmware"]["location"] == url
            await update(lab, location="http://192.0.2.7/plain.bin")
            await update(lab, location="https://no-such-host.invalid/x.bin")
            await update(lab, code=422, location="ftp://user:t0psecret@127.0.0.1/other/x.bin")
            await update(lab, code=422, location="ftp://127.0.0.1/fw/../x.bin")
            order = {"stations": ["CS-1"], "firmware": {"location": url}}
            made = await do(lab, "POST", "campaigns/firmware", **order)
            await sent(station)
            await report(station, None, "Idle")
            shown = [
                await lab.api.get(f"/api/v1/{path}")
                for path in (
                    f"jobs/{asked['job']['request_key']}",
                    "jobs",
                    "stations/CS-1/jobs",
                    "stations/CS-1/commands",
                    "campaigns",
                    f"campaigns/{made['bulk_id']}",
                    "log",
                    "stations/CS-1/frames?action=UpdateFirmware",
                )
            ]
    assert "***@127.0.0.1/fw" in shown[0].text
    assert "***@127.0.0.1/fw" in shown[-1].text
    for answer in shown:
        assert answer.status_code == 200
        assert "t0psecret" not in answer.text, answer.url
    assert "t0psecret" not in caplog.text


async def test_l12_statuses_out_of_order_twice_or_of_nobody_harm_no_job(
    lab: Lab, version: str
) -> None:
    async with lab.station(version, automation=False) as station:
        station.answers["UpdateFirmware"] = {} if version == "1.6" else {"status": "Accepted"}
        await report(station, None, "Idle")
        assert (await lab.get("jobs"))["items"] == []
        if version != "1.6":
            await report(station, 4711, "Downloading")
        else:
            await report(station, None, "Downloading")
        unknown = await lab.world.events("report on unknown request")
        assert len(unknown) == 1
        asked = await update(lab)
        request_id = (await sent(station)).get("requestId")
        key = asked["job"]["request_key"]
        await report(station, request_id, "Downloaded", "Downloading", "Downloading")
        job = await lab.get(f"jobs/{key}")
        assert (job["state"], job["status"]) == ("running", "Downloaded")
        await report(station, request_id, "Idle")
        assert (await lab.get(f"jobs/{key}"))["state"] == "running"
        await report(station, request_id, "Installed")
        await report(station, request_id, "Installing")
        job = await lab.get(f"jobs/{key}")
    assert (job["state"], job["status"], job["progress_share"]) == ("done", "Installed", 1.0)


# --- signed firmware in 1.6 ----------------------------------------------------------------------


async def signed(station: RawStation, request_id: int, *statuses: str) -> None:
    for word in statuses:
        given = {"status": word, "requestId": request_id}
        assert await station.call("SignedFirmwareStatusNotification", given) == {}


@pytest.mark.parametrize("order", list(itertools.permutations(("event", "Available", "Installed"))))
async def test_s53_a_signed_update_of_1_6_is_followed_in_any_order_after_the_boot(
    lab: Lab, order: tuple[str, ...]
) -> None:
    async with lab.station("1.6", automation=False) as station:
        asked = await update(lab, **SIGNED)
        assert asked["outcome"] == "accepted"
        payload = (await station.called("SignedUpdateFirmware")).payload
        request_id, key = payload["requestId"], asked["job"]["request_key"]
        assert payload["firmware"]["signature"] == "SIG"
        await signed(station, request_id, "Downloading", "Downloaded", "SignatureVerified")
        await signed(station, request_id, "Installing", "InstallRebooting")
        await station.boot(firmwareVersion="2.0")
        for told in order:
            if told == "event":
                event = {"type": "FirmwareUpdated", "timestamp": when()}
                assert await station.call("SecurityEventNotification", event) == {}
            elif told == "Available":
                await status(station, "Available")
            else:
                await signed(station, request_id, "Installed")
        job = await job_in(lab, key, "done")
        shown = await lab.get("stations/CS-1")
        records = await lab.get("stations/CS-1/records", action="SecurityEventNotification")
    assert words(job) == [
        "Downloading",
        "Downloaded",
        "SignatureVerified",
        "Installing",
        "InstallRebooting",
        "Installed",
    ]
    assert shown["firmware_version"] == "2.0"
    assert shown["evses"][0]["status"] == "Available"
    assert "FirmwareUpdated" in records["items"][0]["payload"]


async def test_s54_an_invalid_signature_fails_the_job(lab: Lab) -> None:
    async with lab.station("1.6", automation=False) as station:
        asked = await update(lab, **SIGNED)
        request_id = (await station.called("SignedUpdateFirmware")).payload["requestId"]
        await signed(station, request_id, "Downloading", "Downloaded", "InvalidSignature")
        job = await lab.get(f"jobs/{asked['job']['request_key']}")
    assert (job["state"], job["status"]) == ("failed", "InvalidSignature")


# --- many stations -------------------------------------------------------------------------------


async def campaign(lab: Lab, key: int, state: str) -> dict[str, Any]:
    async def there() -> dict[str, Any] | None:
        found: dict[str, Any] = await lab.get(f"campaigns/{key}")
        return found if found["state"] == state else None

    found: dict[str, Any] = await eventually(there, f"campaign {key} is not {state}")
    return found


async def test_a_campaign_updates_stations_one_after_another_and_stops_on_failures(
    lab: Lab,
) -> None:
    async with (
        lab.station("2.0.1", "CS-1", automation=False, answers=TAKES) as first,
        lab.station("1.6", "CS-2", automation=False) as second,
        lab.station("2.0.1", "CS-3", automation=False, answers=TAKES) as third,
    ):
        second.answers["UpdateFirmware"] = {}
        made = await do(
            lab,
            "POST",
            "campaigns/firmware",
            filter={"site_id": "main"},
            at_once=1,
            stop_after_failures=1,
            firmware={"location": URL},
        )
        key = made["bulk_id"]
        request_id = (await sent(first))["requestId"]
        assert second.seen("UpdateFirmware") == []
        await report(first, request_id, "Downloading", "Downloaded", "Installed")
        await sent(second)
        assert third.seen("UpdateFirmware") == []
        await report(second, None, "Downloading", "DownloadFailed")
        found = await campaign(lab, key, "stopped")
    assert third.seen("UpdateFirmware") == []
    assert [(s["station_id"], s["state"], s["status"]) for s in found["stations"]] == [
        ("CS-1", "done", "Installed"),
        ("CS-2", "failed", "DownloadFailed"),
        ("CS-3", "skipped", ""),
    ]
    assert found["progress_share"] == 1.0


async def test_one_command_goes_to_many_stations_with_an_outcome_each(lab: Lab) -> None:
    async with (
        lab.station("2.0.1", "CS-1", automation=False, answers=TAKES) as first,
        lab.station("1.6", "CS-2", automation=False) as second,
    ):
        second.answers["ClearCache"] = {"status": "Rejected"}
        await lab.world.register("CS-3")
        made = await do(lab, "POST", "commands", action="ClearCache", payload={}, filter={})
        found = await campaign(lab, made["bulk_id"], "done")
        assert (await first.called("ClearCache")).payload == {}
        outcomes = {s["station_id"]: (s["state"], s["outcome"]) for s in found["stations"]}
        page = await lab.get("stations/CS-2/commands", action="ClearCache")
        nobody = await lab.api.post(
            "/api/v1/commands", json={"action": "ClearCache", "filter": {"site_id": "elsewhere"}}
        )
        both = await lab.api.post("/api/v1/commands", json={"action": "ClearCache"})
    assert outcomes == {
        "CS-1": ("done", "accepted"),
        "CS-2": ("failed", "rejected"),
        "CS-3": ("failed", "not_sent"),
    }
    assert page["items"][0]["command_id"] == found["stations"][1]["command_id"]
    assert found["counts"] == {"done": 1, "failed": 2}
    assert (nobody.status_code, both.status_code) == (422, 422)


async def test_a_command_to_many_waits_for_those_that_are_away(lab: Lab) -> None:
    async with lab.station("2.0.1", "CS-1", automation=False) as first:
        await lab.world.register("CS-2")
        await lab.world.register("CS-3")
        for station_id in ("CS-2", "CS-3"):
            change = lab.world.system.enrolment.change_station
            await change(station_id, {"automation": False}, by="test")
        order = {"action": "ClearCache", "payload": {}, "filter": {}, "expires_s": 3600}
        made = await do(lab, "POST", "commands", **order)
        await campaign(lab, made["bulk_id"], "done")
        assert (await first.called("ClearCache")).payload == {}
        lab._registered |= {"CS-2", "CS-3"}
        async with lab.station("1.6", "CS-2", automation=False) as second:
            assert (await second.called("ClearCache")).payload == {}
            waits = await lab.get("stations/CS-3/commands", action="ClearCache")
            assert (waits["items"][0]["outcome"], waits["total"]) == ("waiting", 1)

            async def outcomes() -> bool:
                found = await lab.get(f"campaigns/{made['bulk_id']}")
                told = [(s["state"], s["outcome"]) for s in found["stations"]]
                return told == [("done", "accepted"), ("done", "accepted"), ("done", "waiting")]

            await eventually(outcomes, "the command that waited has no outcome")
        profile = {"action": "SetChargingProfile", "payload": {}, "filter": {}, "expires_s": 60}
        await do(lab, "POST", "commands", status=422, **profile)
