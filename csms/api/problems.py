"""Errors as application/problem+json (RFC 9457): one place maps exceptions to stable types.

A problem says what was wrong in words an operator can act on; never a stack, SQL or a path.
"""

import secrets

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from csms.core import errors

log = structlog.get_logger(__name__)

TYPE = "urn:tasco:problem:"
MEDIA_TYPE = "application/problem+json"

_STATUS: tuple[tuple[type[errors.TascoError], int, str, str], ...] = (
    (errors.UnknownStation, 404, "unknown-station", "No such station"),
    (errors.UnknownSite, 404, "unknown-site", "No such site"),
    (errors.UnknownSession, 404, "unknown-session", "No such session"),
    (errors.NotFound, 404, "not-found", "Not found"),
    (errors.Conflict, 409, "conflict", "Contradicts what is stored"),
    (errors.InvalidInput, 422, "invalid-input", "Invalid input"),
    (errors.IdentityError, 422, "invalid-identity", "Identity cannot be used"),
    (errors.NotSent, 409, "not-sent", "Not sent"),
    (errors.StoreUnavailable, 503, "store-unavailable", "Nothing was recorded"),
    (errors.BusError, 503, "gateway-unavailable", "The gateway cannot be reached"),
    (errors.ProviderError, 503, "source-unavailable", "An outside source failed"),
)
_HTTP = {
    401: ("unauthenticated", "Log in"),
    403: ("forbidden", "Not permitted"),
    404: ("not-found", "Not found"),
    405: ("method-not-allowed", "Method not allowed"),
    409: ("conflict", "Contradicts what is stored"),
    413: ("too-large", "Body too large"),
    422: ("invalid-input", "Invalid input"),
    503: ("unavailable", "Not available now"),
}


class Problem(Exception):
    """An answer other than success that has its own stable type."""

    def __init__(self, status: int, type_: str, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.type_ = type_
        self.title = title
        self.detail = detail


def answer(
    status: int,
    type_: str,
    title: str,
    detail: str,
    *,
    fields: list[dict[str, str]] | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """Return a problem as a response; `fields` names what was wrong where."""
    body: dict[str, object] = {
        "type": TYPE + type_,
        "title": title,
        "status": status,
        "detail": detail,
        "request_id": secrets.token_hex(8),
    }
    if fields is not None:
        body["errors"] = fields
    return JSONResponse(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def register(app: FastAPI) -> None:
    """Answer everything that is raised in `app` as a problem."""

    @app.exception_handler(Problem)
    async def _problem(_: Request, error: Problem) -> JSONResponse:
        return answer(error.status, error.type_, error.title, error.detail)

    @app.exception_handler(errors.TascoError)
    async def _tasco(_: Request, error: errors.TascoError) -> JSONResponse:
        for kind, status, type_, title in _STATUS:
            if isinstance(error, kind):
                headers = {"Retry-After": "5"} if status == 503 else None
                return answer(status, type_, title, str(error), headers=headers)
        log.error("request failed", error=repr(error))
        return answer(500, "internal", "Internal error", "see the log of the server")

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        fields = [
            {"field": ".".join(str(part) for part in item["loc"]), "detail": str(item["msg"])}
            for item in error.errors()
        ]
        words = "; ".join(f"{f['field']}: {f['detail']}" for f in fields[:5])
        return answer(422, "invalid-input", "Invalid input", words, fields=fields)

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        type_, title = _HTTP.get(error.status_code, ("http", "Request refused"))
        return answer(
            error.status_code, type_, title, str(error.detail), headers=dict(error.headers or {})
        )

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> JSONResponse:
        log.error("request failed", path=request.url.path, exc_info=error)
        return answer(500, "internal", "Internal error", "see the log of the server")
