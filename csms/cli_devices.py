"""Commands of the command line that a running central system carries out, by its HTTP API.

Stations are linked to the process that runs: the command line asks it, as any operator does, with
an API token from a file or from the environment.
"""

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csms.core.errors import InvalidInput
from csms.settings import Settings, load

if TYPE_CHECKING:
    import httpx

_ENDED = ("done", "stopped", "cancelled")
_POLL_S = 0.5
TOKEN = "OPERATOR_TOKEN"
"""The environment variable with an API token; TASCO_* is kept for settings."""

StationOption = Annotated[
    list[str] | None, typer.Option("--station", help="A station; may be given several times.")
]
AllOption = Annotated[bool, typer.Option("--all", help="Every station there is.")]
SiteOption = Annotated[str, typer.Option("--site", help="The stations of a site.")]
ModelOption = Annotated[str, typer.Option("--model", help="The stations of a model.")]
AtOnceOption = Annotated[int, typer.Option(min=1, max=500, help="Stations at the same time.")]
StopOption = Annotated[
    int, typer.Option("--stop-after", min=0, help="Begin with no further station after failures.")
]
UrlOption = Annotated[str, typer.Option("--url", help="Where the API is; from config.toml.")]
TokenOption = Annotated[
    Path | None, typer.Option("--token-file", help=f"File with an API token; else ${TOKEN}.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]


def api_client(url: str, token_file: Path | None) -> "httpx.Client":
    """Return a client of the API at `url`, or where config.toml says; raise InvalidInput."""
    if not url:
        config = Path("config.toml")
        settings: Settings = load(config if config.is_file() else None)
        host = f"[{settings.api.host}]" if ":" in settings.api.host else settings.api.host
        url = f"http://{host}:{settings.api.port}"
    try:
        token = token_file.read_text().strip() if token_file else os.environ.get(TOKEN, "")
    except OSError as error:
        raise InvalidInput(f"{token_file}: cannot be read: {error.strerror}") from error
    if not token:
        raise InvalidInput(f"no API token; give --token-file or set {TOKEN}")
    headers = {"Authorization": f"Bearer {token}"}
    import httpx

    return httpx.Client(base_url=f"{url.rstrip('/')}/api/v1/", headers=headers, timeout=70.0)


def ask(client: "httpx.Client", method: str, path: str, body: object = None) -> dict[str, Any]:
    """Return what the API answers; raise InvalidInput with what it says is wrong."""
    import httpx

    try:
        answer = client.request(method, path, json=body)
    except httpx.HTTPError as error:
        raise InvalidInput(f"{client.base_url} cannot be reached: {error}") from error
    found = answer.json() if "json" in answer.headers.get("content-type", "") else {}
    if not answer.is_success:
        raise InvalidInput(str(found.get("detail", f"answered {answer.status_code}")))
    return dict(found)


def _meant(stations: list[str] | None, every: bool, site: str, model: str) -> dict[str, object]:
    if bool(stations) == (every or bool(site) or bool(model)):
        raise typer.BadParameter("give --station, or --all, --site and --model")
    if stations:
        return {"stations": stations}
    wanted = {"site_id": site, "model": model}
    return {"filter": {name: value for name, value in wanted.items() if value}}


def _followed(client: "httpx.Client", campaign: dict[str, Any], *, as_json: bool) -> None:
    """Wait for the end of a campaign, print each station's outcome, and fail if one failed."""
    key = campaign["bulk_id"]
    while campaign["state"] not in _ENDED:
        time.sleep(_POLL_S)
        campaign = ask(client, "GET", f"campaigns/{key}")
    campaign = ask(client, "GET", f"campaigns/{key}")
    if as_json:
        typer.echo(json.dumps(campaign))
    else:
        for item in campaign["stations"]:
            word = item["status"] or item["error"]
            typer.echo(f"{item['station_id']:32} {item['state']:8} {item['outcome']:12} {word}")
    if any(item["state"] != "done" for item in campaign["stations"]):
        raise typer.Exit(1)


def command(
    action: Annotated[str, typer.Argument(help="Any action of the stations' version.")],
    payload: Annotated[str, typer.Argument(help="Its payload as JSON.")] = "{}",
    station: StationOption = None,
    every: AllOption = False,
    site: SiteOption = "",
    model: ModelOption = "",
    at_once: AtOnceOption = 10,
    stop_after: StopOption = 0,
    url: UrlOption = "",
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send one command to stations and print each one's outcome; exit 1 if one failed."""
    try:
        given = json.loads(payload)
    except ValueError as error:
        raise typer.BadParameter(f"the payload is no JSON: {error}") from error
    body = {
        **_meant(station, every, site, model),
        "action": action,
        "payload": given,
        "at_once": at_once,
        "stop_after_failures": stop_after,
    }
    with api_client(url, token_file) as client:
        _followed(client, ask(client, "POST", "commands", body), as_json=as_json)


def firmware(
    location: Annotated[str, typer.Argument(help="URL of the image.")],
    station: StationOption = None,
    every: AllOption = False,
    site: SiteOption = "",
    model: ModelOption = "",
    at_once: AtOnceOption = 1,
    stop_after: StopOption = 1,
    url: UrlOption = "",
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Update stations' firmware, one at a time unless told otherwise, and wait for the end."""
    body = {
        **_meant(station, every, site, model),
        "firmware": {"location": location},
        "at_once": at_once,
        "stop_after_failures": stop_after,
    }
    with api_client(url, token_file) as client:
        made = ask(client, "POST", "campaigns/firmware", body)
        _followed(client, made, as_json=as_json)


def logs(
    station: StationOption = None,
    every: AllOption = False,
    site: SiteOption = "",
    model: ModelOption = "",
    log_type: Annotated[str, typer.Option("--type")] = "DiagnosticsLog",
    at_once: AtOnceOption = 10,
    url: UrlOption = "",
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Collect a log of stations and wait for the end; the files lie with their jobs."""
    body = {
        **_meant(station, every, site, model),
        "log": {"log_type": log_type},
        "at_once": at_once,
    }
    with api_client(url, token_file) as client:
        made = ask(client, "POST", "campaigns/logs", body)
        _followed(client, made, as_json=as_json)


def variables(
    station_id: str,
    read: Annotated[
        bool, typer.Option("--read", help="Ask the station for all of them first.")
    ] = False,
    url: UrlOption = "",
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List a station's variables as last read and set; 1.6 keys are variables too."""
    with api_client(url, token_file) as client:
        if read:
            asked = ask(client, "POST", f"stations/{station_id}/reports", {})
            _until_done(client, asked["job"])
        found: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            path = f"stations/{station_id}/variables?limit=200&cursor={cursor}"
            page = ask(client, "GET", path)
            found += page["items"]
            cursor = page["cursor"]
    if as_json:
        typer.echo(json.dumps(found))
        return
    for item in found:
        name = f"{item['component']}.{item['variable']}"
        value = "-" if item["value"] is None else item["value"]
        mode = "r " if item["is_readonly"] else "rw"
        typer.echo(f"{name:56} {mode} {value} {item['set_status']}".rstrip())


def _until_done(client: "httpx.Client", job: dict[str, Any]) -> None:
    until = time.monotonic() + 60.0
    while job["state"] in ("asked", "accepted", "running") and time.monotonic() < until:
        time.sleep(_POLL_S)
        job = ask(client, "GET", f"jobs/{job['request_key']}")
    if job["state"] != "done":
        raise InvalidInput(f"the station's report is {job['state']}: {job['status']}")
