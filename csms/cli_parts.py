"""What every command of the command line shares: configuration, store, API, printing."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from csms.core.errors import InvalidInput, TascoError
from csms.settings import Settings, load
from csms.telemetry import set_up_logging

if TYPE_CHECKING:
    from csms.store.database import Store

T = TypeVar("T")

BY = "command line"
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Configuration file; config.toml here if there is one."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]


def settings_from(config: Path | None) -> Settings:
    """Return the settings of `config`, of config.toml in this folder, or the defaults."""
    if config is None and Path("config.toml").is_file():
        config = Path("config.toml")
    settings = load(config)
    set_up_logging(level=settings.telemetry.level, format_=settings.telemetry.format)
    return settings


def run(work: Awaitable[T]) -> T:
    """Run `work` on uvloop where it is there.

    Where nothing but errors of ours ended its tasks, the first of them is raised, which says why.
    """

    async def awaited() -> T:
        try:
            return await work
        except BaseExceptionGroup as group:
            ours, others = group.split(TascoError)
            if ours is None or others is not None:
                raise
            raise _first(ours) from None

    try:
        import uvloop
    except ImportError:
        return asyncio.run(awaited())
    return uvloop.run(awaited())


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def with_store(config: Path | None, work: Callable[[Any, Settings], Awaitable[T]]) -> T:
    """Run `work(store, settings)` on the configured store."""
    from csms.opening import open_store

    settings = settings_from(config)

    async def opened() -> T:
        store = await open_store(settings)
        try:
            return await work(store, settings)
        finally:
            await store.close()

    return run(opened())


def show(value: object, *, as_json: bool) -> None:
    """Print `value` as JSON, or its lines."""
    if as_json:
        typer.echo(json.dumps(value, default=str))
    elif isinstance(value, list):
        for item in value:
            typer.echo(
                "  ".join(str(v) for v in item.values()) if isinstance(item, dict) else str(item)
            )
    elif isinstance(value, dict):
        for key, item in value.items():
            typer.echo(f"{key:32} {item}")


async def ask_api(
    store: "Store", settings: Settings, path: str, body: Mapping[str, object]
) -> dict[str, Any]:
    """POST to the running system's API with a token that lives as long as the call.

    Whoever can write the store may do anything, so this gives nobody a right. Raises InvalidInput
    with what the API says, or if nothing answers.
    """
    import httpx

    from csms.api.auth import OPERATOR, new_token, token_hash, token_prefix
    from csms.store import access

    token, url = new_token(), f"http://{settings.api.host}:{settings.api.port}/api/v1{path}"
    made_at = datetime.now(UTC)
    token_id = await store.write(
        lambda tx: access.add_api_token(
            tx,
            hash_=token_hash(token),
            prefix=token_prefix(token),
            role=OPERATOR,
            label=BY,
            at=made_at,
        )
    )
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=90.0) as client:
            answer = await client.post(
                url, json=dict(body), headers={"Authorization": f"Bearer {token}"}
            )
    except httpx.HTTPError as error:
        raise InvalidInput(f"{url} does not answer: {error}; `tasco serve` has to run") from error
    finally:
        await store.write(lambda tx: access.revoke_api_token(tx, token_id, datetime.now(UTC)))
    found: dict[str, Any] = answer.json()
    if answer.is_error:
        raise InvalidInput(str(found.get("detail") or found.get("title") or answer.status_code))
    return found
