"""Where stations put their files: no login but the one-time token in the URL."""

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from csms.api import problems
from csms.core.errors import InvalidInput, NotFound
from csms.service.logs import Logs, TooLarge

PREFIX = "/uploads/"


def add(app: FastAPI, logs: Logs) -> None:
    """Serve PUT and POST of a file under `/uploads/<token>[/<name>]`."""

    @app.api_route("/uploads/{token}", methods=["PUT", "POST"], include_in_schema=False)
    async def unnamed(token: str, request: Request) -> Response:
        """Take a file without a name."""
        return await _take(logs, request, token, "")

    @app.api_route("/uploads/{token}/{name:path}", methods=["PUT", "POST"], include_in_schema=False)
    async def named(token: str, name: str, request: Request) -> Response:
        """Take a file with the name a station gave it."""
        return await _take(logs, request, token, name)


async def _take(logs: Logs, request: Request, token: str, name: str) -> Response:
    try:
        size = await logs.receive(token, name, request.stream())
    except NotFound as error:
        return problems.answer(404, "not-found", "Not found", str(error))
    except InvalidInput as error:
        return problems.answer(422, "invalid-input", "Invalid input", str(error))
    except TooLarge:
        limit = logs.options.max_bytes
        return problems.answer(413, "too-large", "Too large", f"a file may have {limit} bytes")
    except ClientDisconnect:
        # Nobody reads this; the place is open for the station's next attempt.
        return problems.answer(400, "cut-short", "Cut short", "the file ended before its length")
    return JSONResponse({"bytes": size}, status_code=201)
