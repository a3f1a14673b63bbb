"""The command line asks the running system, and tells of each station by itself (K7)."""

import asyncio
import json
import os
import sys
from pathlib import Path

from tests.conformance.conftest import Lab
from tests.conformance.devices import do


async def tasco(lab: Lab, token: str, *arguments: str) -> tuple[int, str]:
    """Run a command of the command line and return its exit code and what it printed."""
    url = f"http://127.0.0.1:{lab.world.system.api_port}"
    env = {**os.environ, "OPERATOR_TOKEN": token}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "csms",
        "station",
        *arguments,
        "--url",
        url,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=Path(__file__).parents[2],
    )
    async with asyncio.timeout(60):
        told, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, told.decode()


async def test_one_command_for_all_stations_prints_each_outcome_and_fails_if_one_does(
    lab: Lab,
) -> None:
    token = (await do(lab, "POST", "api-tokens", role="operator", label="line"))["token"]
    async with (
        lab.station("2.0.1", "CS-1", automation=False),
        lab.station("1.6", "CS-2", automation=False) as second,
    ):
        code, told = await tasco(lab, token, "command", "ClearCache", "--all")
        assert code == 0, told
        assert [line.split()[:3] for line in told.splitlines()] == [
            ["CS-1", "done", "accepted"],
            ["CS-2", "done", "accepted"],
        ]
        second.answers["ClearCache"] = {"status": "Rejected"}
        code, told = await tasco(lab, token, "command", "ClearCache", "--station", "CS-2", "--json")
        assert code == 1
        (item,) = json.loads(told)["stations"]
        assert (item["state"], item["status"]) == ("failed", "Rejected")
        code, told = await tasco(lab, "wrong", "command", "ClearCache", "--all")
    assert (code, told.startswith("tasco: ")) == (2, True)


async def test_variables_of_a_station_are_read_and_listed(lab: Lab) -> None:
    token = (await do(lab, "POST", "api-tokens", role="operator", label="line"))["token"]
    keys = [{"key": "HeartbeatInterval", "readonly": False, "value": "300"}]
    async with lab.station(
        "1.6", automation=False, answers={"GetConfiguration": {"configurationKey": keys}}
    ):
        code, told = await tasco(lab, token, "variables", "CS-1", "--read")
    assert code == 0, told
    assert told.split() == ["Configuration.HeartbeatInterval", "rw", "300"]
