"""K8 of api.md: what was said, per station, paired, filtered, exported and live."""

import asyncio
import json
from pathlib import Path

import httpx

from csms.tools import replay_frames
from tests.conformance.conftest import Lab

FRAMES = "stations/CS-1/frames"
CARD = "04D1E2F3A4B5C6"


async def test_k8_calls_and_answers_of_both_sides_are_listed(lab: Lab, version: str) -> None:
    async with lab.station(version) as station:
        await station.call("Heartbeat", {})
        await lab.command("ClearCache", {})
        found = (await lab.get(FRAMES))["items"]
        assert {"ClearCache", "Heartbeat", "BootNotification"} <= {f["action"] for f in found}
        assert [f["at"] for f in found] == sorted((f["at"] for f in found), reverse=True)
        (clear,) = (await lab.get(FRAMES, action="ClearCache"))["items"]
        assert json.loads(clear["frame"])[2] == "ClearCache"
        assert json.loads(clear["answer"]["frame"])[2] == {"status": "Accepted"}
        assert clear["answer"]["direction"] == "in"
        assert clear["took_s"] >= 0
        (boot,) = (await lab.get(FRAMES, action="BootNotification"))["items"]
        older = (await lab.get(FRAMES, until=boot["at"]))["items"]
        assert older == [], "nothing was said before the boot"


async def test_k8_an_export_can_be_replayed(lab: Lab, version: str, tmp_path: Path) -> None:
    async with lab.station(version) as station:
        await station.call("Heartbeat", {})
        export = await lab.api.get(f"/api/v1/{FRAMES}/export")
    lines = [json.loads(line) for line in export.text.splitlines()]
    first = next(json.loads(x["frame"]) for x in lines if x["direction"] == "in")
    assert first[2] == "BootNotification"
    file = tmp_path / "frames.jsonl"
    file.write_text(export.text, encoding="utf-8")
    replayed = await replay_frames(file)
    assert replayed["stations"] == 1


async def test_k8_frames_are_watched_live(lab: Lab) -> None:
    async with (
        lab.station("1.6") as station,
        lab.api.stream("GET", f"/api/v1/{FRAMES}/live") as stream,
    ):
        lines = stream.aiter_lines()
        assert await anext(lines) == ": watching"
        await station.call("DataTransfer", {"vendorId": "com.example"})
        seen = []
        async for line in lines:
            if line.startswith("data: "):
                seen.append(json.loads(line.removeprefix("data: ")))
            if any('"status":"UnknownVendorId"' in s["frame"] for s in seen):
                break
        assert any(s["direction"] == "in" and "DataTransfer" in s["frame"] for s in seen)


async def test_k8_a_viewer_sees_no_whole_id_token(lab: Lab) -> None:
    made = await lab.api.post("/api/v1/api-tokens", json={"role": "viewer"})
    login = {"Authorization": f"Bearer {made.json()['token']}"}
    start = {"connectorId": 1, "idTag": CARD, "meterStart": 0, "timestamp": "2026-03-02T12:00:00Z"}
    paths = [
        FRAMES,
        f"{FRAMES}/export",
        "stations/CS-1/commands",
        "transactions",
        "sessions",
        "stations/CS-1/local-list",
    ]
    held = {"value": CARD, "kind": "ISO14443"}
    assert (await lab.api.put("/api/v1/tokens", json=held)).is_success
    async with (
        lab.station("1.6") as station,
        httpx.AsyncClient(base_url=lab.api.base_url, headers=login) as viewer,
        viewer.stream("GET", f"/api/v1/{FRAMES}/live") as live,
        viewer.stream("GET", "/api/v1/events") as events,
    ):
        lines = live.aiter_lines()
        assert await anext(lines) == ": watching"
        await lab.api.post("/api/v1/stations/CS-1/local-list/sync?full=true")
        await lab.command("RemoteStartTransaction", {"idTag": CARD})
        transaction = (await station.call("StartTransaction", start))["transactionId"]
        passed = ""
        async with asyncio.timeout(15):
            while f'\\"transactionId\\":{transaction}' not in passed:
                passed += await anext(lines)
            happened = ""
            async for text in events.aiter_text():
                happened += text
                if "snapshot" in happened:
                    break
        assert CARD not in passed + happened
        assert '\\"idTag\\":\\"~' in passed
        for path in paths:
            shown = await lab.api.get(f"/api/v1/{path}")
            assert CARD in shown.text, path
            seen = await viewer.get(f"/api/v1/{path}")
            assert seen.is_success, path
            assert CARD not in seen.text, path
            assert '"~' in seen.text or '\\"~' in seen.text, path
