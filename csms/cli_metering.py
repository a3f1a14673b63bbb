"""Commands of the command line that report loads and own generation to a running system."""

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from csms.cli_devices import JsonOption, TokenOption, UrlOption, api_client, ask
from csms.cli_parts import show
from csms.core.errors import InvalidInput

meter_app = typer.Typer(
    help="Meters: loads beside the cars and own generation.", no_args_is_help=True
)
SiteArgument = Annotated[str, typer.Argument(help="The site.")]
_AT_ONCE = 5_000
_NUMBERS = ("power_kw", "high_kw", "current_a")


@meter_app.command("list")
def list_meters(
    site: SiteArgument,
    url: UrlOption = "",
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List a site's meters, what each told last and what counts now."""
    with api_client(url, token_file) as api:
        found = ask(api, "GET", f"sites/{site}/meters")["items"]
    if as_json:
        typer.echo(json.dumps(found))
        return
    for item in found:
        told = item["reading"]
        last = "never told" if told is None else f"{told['power_kw']:g} kW at {told['at']}"
        state = "silent" if item["is_silent"] else "heard"
        where = item["circuit_id"] or "site"
        typer.echo(
            f"{item['meter']:20} {item['kind']:6} {where:16} {state:7} "
            f"counts {item['counts_kw']:.3f} kW  {last}"
        )


@meter_app.command()
def report(
    site: SiteArgument,
    meter: Annotated[str, typer.Argument(help="The meter, as the site's configuration names it.")],
    power_kw: Annotated[float | None, typer.Option("--kw", help="Power now.")] = None,
    amperes: Annotated[
        str, typer.Option("--amperes", help="Current of each phase, or L1,L2,L3.")
    ] = "",
    file: Annotated[
        Path | None, typer.Option("--file", help="CSV or JSON with at, power_kw or current_a.")
    ] = None,
    url: UrlOption = "",
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Report what a meter shows now, or a file of its readings; the same again changes nothing."""
    if (file is None) == (power_kw is None and not amperes):
        raise typer.BadParameter("give --kw or --amperes, or a --file")
    if file is not None:
        rows = rows_of(file, {"at", "power_kw", "current_a"})
    else:
        rows = [{"at": datetime.now(UTC).isoformat()}]
        if power_kw is not None:
            rows[0]["power_kw"] = power_kw
        if amperes:
            rows[0]["current_a"] = _amperes(amperes)
    found: dict[str, Any] = {}
    with api_client(url, token_file) as api:
        for k in range(0, len(rows), _AT_ONCE):
            body = {"readings": rows[k : k + _AT_ONCE]}
            found = ask(api, "POST", f"sites/{site}/meters/{meter}/readings", body)
    told = found["meter"]
    show(
        {"taken": len(rows), "counts_kw": told["counts_kw"], "is_silent": told["is_silent"]},
        as_json=as_json,
    )


@meter_app.command()
def expect(
    site: SiteArgument,
    kind: Annotated[str, typer.Argument(help="load or solar.")],
    file: Annotated[
        Path, typer.Argument(help="CSV or JSON with starts_at, until, power_kw and maybe high_kw.")
    ],
    circuit: Annotated[str, typer.Option("--circuit", help="A circuit; else the site.")] = "",
    url: UrlOption = "",
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hand in a forecast of load or own generation; it replaces what was expected then."""
    points = rows_of(file, {"starts_at", "until", "power_kw", "high_kw"})
    body = {"kind": kind, "circuit_id": circuit, "points": points}
    with api_client(url, token_file) as api:
        show(ask(api, "PUT", f"sites/{site}/expected", body), as_json=as_json)


def rows_of(file: Path, known: set[str]) -> list[dict[str, Any]]:
    """Return the rows of a CSV file, or of a JSON list of objects; raise InvalidInput."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file}: cannot be read: {error}") from error
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except ValueError as error:
            raise InvalidInput(f"{file}: is no JSON: {error}") from error
        if not all(isinstance(row, dict) for row in rows):
            raise InvalidInput(f"{file}: must be a list of objects")
    else:
        rows = [_told(row, file, n) for n, row in enumerate(csv.DictReader(io.StringIO(text)), 2)]
    if not rows:
        raise InvalidInput(f"{file}: has no rows")
    unknown = sorted({str(name) for row in rows for name in row} - known)
    if unknown:
        raise InvalidInput(
            f"{file}: does not know {', '.join(unknown)}; permitted: {', '.join(sorted(known))}"
        )
    return list(rows)


def _told(row: dict[str, Any], file: Path, line: int) -> dict[str, Any]:
    """Return a CSV row with its numbers; an empty field says nothing."""
    given = {name: text for name, text in row.items() if text}
    try:
        for name in _NUMBERS:
            if name in given:
                text = str(given[name])
                given[name] = _amperes(text) if name == "current_a" else float(text)
    except ValueError as error:
        raise InvalidInput(f"{file}: line {line}: {error}") from error
    return given


def _amperes(text: str) -> float | list[float]:
    found = [float(part) for part in text.replace(";", ",").split(",")]
    return found if len(found) > 1 else found[0]
