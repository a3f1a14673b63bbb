"""What viewers see: everything but whole id tokens, with which a card could be copied.

In place of each token stands its hint, the same in every answer, so that what belongs together
still shows. It is done to the answers themselves, whatever their route: a new one forgets nothing.
"""

import json
from collections.abc import AsyncIterator

from fastapi import Response
from fastapi.responses import StreamingResponse

from csms.core.masking import without_tokens
from csms.telemetry import token_hint

_DATA = "data: "


def for_viewers(response: Response) -> Response:
    """Return `response`, JSON or a stream of JSON lines or events, without whole id tokens."""
    if isinstance(response, StreamingResponse):
        response.body_iterator = _lines(response.body_iterator)  # type: ignore[arg-type]
    elif response.media_type == "application/json":
        response.body = _masked(bytes(response.body).decode()).encode()
        response.headers["content-length"] = str(len(response.body))
    return response


async def _lines(chunks: AsyncIterator[str]) -> AsyncIterator[str]:
    """Mask each chunk of a stream, which is one event or one JSON line."""
    async for chunk in chunks:
        yield "".join(_line(line) for line in chunk.splitlines(keepends=True))


def _line(line: str) -> str:
    text = line.rstrip("\n")
    end = line[len(text) :]
    if text.startswith(_DATA):
        return f"{_DATA}{_masked(text.removeprefix(_DATA))}{end}"
    return f"{_masked(text)}{end}" if text.startswith("{") else line


def _masked(text: str) -> str:
    value = json.loads(text)
    return json.dumps(without_tokens(value, token_hint), separators=(",", ":"), ensure_ascii=False)
