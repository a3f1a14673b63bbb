"""K8 of api.md: what was said, per station, paired, filtered, exported and live."""

import json
from pathlib import Path

from csms.tools import replay_frames
from tests.conformance.conftest import Lab

FRAMES = "stations/CS-1/frames"


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
