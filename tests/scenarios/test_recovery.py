"""A process that is killed in the middle of its work: what was half done comes to an end."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from csms.api.auth import new_token, token_hash, token_prefix
from csms.core.device import Kind
from csms.core.security import CertificateInfo
from csms.service.recovery import give_up_silent
from csms.store import access, certificates, requests, tables
from csms.store.database import Store
from csms.store.requests import RequestStep
from tests.conformance.raw import SILENCE, RawStation, linked
from tests.scenarios.test_kills import Server
from tests.scenarios.world import eventually, living, settings

OLD = "the first password"
NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SILENT = ("SetVariables", "ReserveNow", "GetBaseReport", "ClearCache")


@dataclass(slots=True)
class Desk:
    """An operator at a server that is killed, with requests that nobody answers any more."""

    server: Server
    token: str
    asked: list[asyncio.Task[Any]] = field(default_factory=list)

    def client(self) -> httpx.AsyncClient:
        """Return a client of the API."""
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.server.api}/api/v1",
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=20.0,
        )

    async def post(self, path: str, body: Any) -> Any:
        """Post and return the answer."""
        async with self.client() as client:
            found = await client.post(path, json=body)
            assert found.is_success, found.text
            return found.json()

    def post_later(self, path: str, body: Any) -> None:
        """Post without waiting: the server will be gone before it answers."""

        async def work() -> None:
            with contextlib.suppress(httpx.HTTPError):
                await self.post(path, body)

        self.asked.append(asyncio.create_task(work()))

    async def get(self, path: str) -> Any:
        """Return what the API has."""
        async with self.client() as client:
            found = await client.get(path)
            assert found.is_success, found.text
            return found.json()

    @contextlib.asynccontextmanager
    async def station(self, station_id: str, **given: Any) -> AsyncIterator[RawStation]:
        """Connect a station to the server."""
        url = f"ws://127.0.0.1:{self.server.ocpp}/ocpp"
        async with linked(url, station_id, "2.0.1", **given) as station:
            await station.boot()
            yield station

    async def restart(self) -> None:
        """Kill the server and start it again."""
        await self.server.end(signal.SIGKILL)
        for task in self.asked:
            task.cancel()
        await asyncio.gather(*self.asked, return_exceptions=True)
        self.asked.clear()
        await self.server.start()


@contextlib.asynccontextmanager
async def desk(folder: Path, url: str) -> AsyncIterator[Desk]:
    """Run a server with two stations and an operator."""
    secret = new_token()
    async with living(settings(url)) as world:
        await world.register("A", password=OLD)
        await world.register("B")
        for station_id in ("A", "B"):
            await world.system.enrolment.change_station(
                station_id, {"automation": False}, by="test"
            )
        await world.store.write(
            lambda tx: access.add_api_token(
                tx,
                hash_=token_hash(secret),
                prefix=token_prefix(secret),
                role="operator",
                label="test",
                at=world.clock.now(),
            )
        )
    server = Server(folder, url)
    await server.start()
    try:
        yield Desk(server, secret)
    finally:
        assert "Traceback" not in server.said(), server.said()
        await server.end(signal.SIGKILL)


async def _half_a_file(url: str) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"half of a log"
        await asyncio.Event().wait()

    async with httpx.AsyncClient() as client:
        with contextlib.suppress(httpx.HTTPError):
            await client.put(url, content=body())


async def test_what_a_killed_process_left_half_done_comes_to_an_end(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tmp_path / "files"
    monkeypatch.setenv("TASCO_TRANSFERS__FOLDER", str(files))
    async with desk(tmp_path, sqlite_url) as at:
        silent = dict.fromkeys(SILENT, SILENCE)
        takes = {"UpdateFirmware": {"status": "Accepted"}}
        async with (
            at.station("A", password=OLD, answers=silent) as a,
            at.station("B", answers=takes) as b,
        ):
            for action in SILENT[1:]:
                payload = {
                    "ReserveNow": {
                        "id": 7,
                        "expiryDateTime": "2036-01-01T00:00:00Z",
                        "idToken": {"idToken": "04A1B2C3", "type": "ISO14443"},
                    },
                    "GetBaseReport": {"requestId": 77, "reportBase": "FullInventory"},
                    "ClearCache": {},
                }[action]
                body = {"action": action, "payload": payload, "wait_s": 25}
                at.post_later("/stations/A/commands", body)
            # One is on its way, the others wait behind it.
            await eventually(lambda: a.calls)
            log = await at.post("/stations/B/logs", {})
            place = (await b.called("GetLog")).payload["log"]["remoteLocation"]
            at.asked.append(asyncio.create_task(_half_a_file(place)))
            many = {"stations": ["B", "A"], "action": "ClearCache", "payload": {}, "at_once": 2}
            commands = await at.post("/commands", many)
            campaign = await at.post(
                "/campaigns/firmware",
                {"stations": ["B"], "firmware": {"location": "https://192.0.2.1/image.bin"}},
            )
            image = (await b.called("UpdateFirmware")).payload["requestId"]
            moved = {"status": "Downloading", "requestId": image}
            assert await b.call("FirmwareStatusNotification", moved) == {}
            at.post_later("/stations/A/password/rotate", {})
            await eventually(lambda: list(files.glob("*.part")), "no half of a file")

            async def on_record() -> bool:
                found = await at.get("/stations/A/commands")
                return len(found["items"]) == 5

            await eventually(on_record, "not all is under way")
            await at.restart()
        for station_id in ("A", "B"):
            found = await at.get(f"/stations/{station_id}/commands?limit=100")
            assert [c for c in found["items"] if c["outcome"] is None] == []
            cut_off = [c for c in found["items"] if c["error"] == "central system restarted"]
            assert len(cut_off) == (5 if station_id == "A" else 0)
        jobs = (await at.get("/jobs"))["items"]
        assert {j["kind"]: j["state"] for j in jobs} == {
            "report": "failed",
            "log": "accepted",
            "firmware": "running",
        }

        async def ended() -> Any:
            found = await at.get(f"/campaigns/{commands['bulk_id']}")
            return found if found["state"] == "done" else None

        shown = await eventually(ended)
        assert {s["station_id"]: s["state"] for s in shown["stations"]} == {
            "A": "failed",
            "B": "done",
        }
        async with httpx.AsyncClient() as client:
            # The station tries again: the place is open, since nothing whole arrived.
            again = await client.put(place, content=b"a whole log")
            assert again.status_code == 201, again.text
        assert (await at.get(f"/jobs/{log['job']['request_key']}"))["file_bytes"] == 11
        # The old password goes on, since nobody knows whether the station took the new one.
        async with at.station("A", password=OLD), at.station("B") as b:
            moved = {"status": "Installed", "requestId": image}
            assert await b.call("FirmwareStatusNotification", moved) == {}

            async def installed() -> bool:
                found = await at.get(f"/campaigns/{campaign['bulk_id']}")
                return bool(found["state"] == "done")

            await eventually(installed)


async def test_a_certificate_that_was_signed_and_not_sent_follows_when_its_station_is_back(
    sqlite_url: str,
) -> None:
    async with living(settings(sqlite_url)) as world:
        await world.register("CS-1")
        now = world.clock.now()
        described = CertificateInfo(
            common_name="CS-1",
            organisation="O",
            issuer="I",
            serial_number="1",
            fingerprint="f",
            valid_from=now,
            valid_until=now + timedelta(days=300),
        )
        given = {"kind": certificates.STATION, "request_digest": "d", "at": now}
        await world.store.write(
            lambda tx: certificates.add_signed(tx, "CS-1", described, chain="PEM", **given)  # type: ignore[arg-type]
        )
        async with linked(world.url, "CS-1", "2.0.1") as station:
            await station.boot()
            assert (await station.called("CertificateSigned")).payload["certificateChain"] == "PEM"

            async def state() -> str:
                found = await world.store.read(
                    lambda tx: certificates.list_certificates(tx, "CS-1")
                )
                return found[0].state if found[0].state != "signed" else ""

            assert await eventually(state) == "accepted"
            await station.boot()
            await station.call("Heartbeat", {})
        assert len(station.seen("CertificateSigned")) == 1


async def test_a_job_that_nobody_hears_of_again_is_given_up(store: Store) -> None:
    def add(kind: Kind, days: float, **detail: object) -> Any:
        at = NOW - timedelta(days=days)
        return store.write(
            lambda tx: requests.add_request(tx, "CS-1", kind, detail=detail, by="test", at=at)
        )

    old_log, new_log = await add(Kind.LOG, 1.5), await add(Kind.LOG, 0.5)
    old_image, new_image = await add(Kind.FIRMWARE, 8), await add(Kind.FIRMWARE, 3)
    due = (NOW - timedelta(days=1)).isoformat()
    planned = await add(Kind.FIRMWARE, 60, install_at=due)
    moving = await add(Kind.LOG, 5)
    step = RequestStep(status="Uploading", detail="", received_at=NOW - timedelta(hours=1))
    await store.write(lambda tx: requests.add_step(tx, moving.request_key, step))
    ended = await store.write(lambda tx: give_up_silent(tx, now=NOW))
    assert ended == [old_log.request_key, old_image.request_key]
    assert await store.write(lambda tx: give_up_silent(tx, now=NOW)) == []
    for request in (new_log, new_image, planned, moving):
        key = request.request_key
        assert (await store.read(lambda tx, k=key: requests.get_request(tx, k))).state == "asked"  # type: ignore[misc]
    kinds = await store.read(lambda tx: [r[0] for r in tx.execute(select(tables.event.c.kind))])
    assert kinds == ["job given up"] * 2
