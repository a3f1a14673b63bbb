"""A headless Chromium that opens a page and tells what is on it, over its debugging protocol."""

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

CHROMIUM = os.environ.get("TASCO_TEST_CHROMIUM") or shutil.which("chromium")
START_S = 30.0
ANSWER_S = 20.0


@dataclass(slots=True)
class Tab:
    """One page in the browser."""

    socket: ClientConnection
    session_id: str = ""
    _numbers: Any = field(default_factory=lambda: count(1))

    async def call(self, method: str, **params: object) -> dict[str, Any]:
        """Return the answer to a command of the protocol; what it says unasked is passed over."""
        number = next(self._numbers)
        asked = {"id": number, "method": method, "params": params}
        if self.session_id:
            asked["sessionId"] = self.session_id
        await self.socket.send(json.dumps(asked))
        async with asyncio.timeout(ANSWER_S):
            while True:
                told = json.loads(await self.socket.recv())
                if told.get("id") == number:
                    assert "error" not in told, told["error"]
                    found: dict[str, Any] = told["result"]
                    return found

    async def value(self, expression: str) -> Any:
        """Return what a script expression comes to."""
        told = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def resize(self, width: int, height: int) -> None:
        """Show the page as a window, or a phone, of that size does."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )


@contextlib.asynccontextmanager
async def opened(url: str, folder: Path) -> AsyncIterator[Tab]:
    """Open `url` in a browser of its own, which keeps what it must in `folder`."""
    assert CHROMIUM is not None
    process = await asyncio.create_subprocess_exec(
        CHROMIUM,
        "--headless",
        # Where tests run as root, or in a container, its own sandbox cannot be set up.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--remote-debugging-port=0",
        f"--user-data-dir={folder}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with connect(await _address(process), max_size=None) as socket:
            browser = Tab(socket)
            made = await browser.call("Target.createTarget", url="about:blank")
            target = made["targetId"]
            joined = await browser.call("Target.attachToTarget", targetId=target, flatten=True)
            tab = Tab(socket, joined["sessionId"])
            await tab.call("Page.navigate", url=url)
            yield tab
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        # Its pipe is read to the end, so that nothing of it outlives the test.
        await process.communicate()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    async with asyncio.timeout(START_S):
        while line := await process.stderr.readline():
            said = line.decode(errors="replace").strip()
            if said.startswith("DevTools listening on "):
                return said.removeprefix("DevTools listening on ")
    raise AssertionError("the browser ended before it could be asked anything")
