"""What the command line does with an open store, and with files instead of stations."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from csms.api.auth import ROLES, new_token, token_hash, token_prefix
from csms.assembly import planning_options
from csms.clock import Clock
from csms.core.circuit import Circuit
from csms.core.errors import InvalidInput, NotFound
from csms.core.model import Credential, Evse, Holder, TokenRecord
from csms.core.plan import Plan, PlanningCase
from csms.gateway_setup import clock_from
from csms.identity.alias import enrolled
from csms.opening import tenant_keys
from csms.planning.planner import plan
from csms.service.cases import NO_TERMS, Surroundings, planning_case, snapshot
from csms.service.challenger import RECENT, summary
from csms.service.claims import ClaimDesk
from csms.service.enrolment import Enrolment, StationRegistration
from csms.settings import Settings
from csms.store import access, identities, links, removal, rivals, stations
from csms.store.database import Store
from csms.store.statements import Tx

BY = "command line"
_BLOCKS = " ▁▂▃▄▅▆▇█"


def enrolment_of(store: Store, settings: Settings) -> Enrolment:
    """Return the desk that registers people and stations in `store`."""
    return Enrolment(
        store=store,
        keys=tenant_keys(settings.identity, settings.store.url),
        clock=Clock(),
        empty_sites=settings.identity.empty_sites,
    )


# --- stations ------------------------------------------------------------------------------------


async def add_stations(
    store: Store,
    settings: Settings,
    station_ids: Iterable[str],
    *,
    site_id: str,
    evses: int,
    max_kw: float,
    phases: int,
    current_type: str,
    password: str,
) -> int:
    """Register stations alike and return how many."""
    enrolment = enrolment_of(store, settings)
    count = 0
    for station_id in station_ids:
        await enrolment.register_station(
            StationRegistration(
                station_id=station_id,
                site_id=site_id,
                password=password or None,
                security_profile=1 if password else 0,
                evses=tuple(
                    Evse(
                        station_id=station_id,
                        evse_id=number + 1,
                        max_kw=max_kw,
                        phases=phases,
                        current_type=current_type,
                    )
                    for number in range(evses)
                ),
            ),
            by=BY,
        )
        count += 1
    return count


async def list_stations(store: Store, settings: Settings) -> list[dict[str, object]]:
    """Return registered stations, then those that tried without being registered."""

    def work(tx: Tx) -> list[dict[str, object]]:
        known: list[dict[str, object]] = [
            {
                "station_id": s.station_id,
                "site_id": s.site_id,
                "link": str(s.link_state),
                "version": str(s.version or "-"),
                "model": f"{s.vendor} {s.model}".strip() or "-",
                "last_seen_at": s.last_seen_at or "-",
            }
            for s in stations.list_stations(tx)
        ]
        return known + [
            {
                "station_id": u.station_id,
                "site_id": "-",
                "link": "not registered",
                "version": "-",
                "model": f"{u.attempts} attempts from {u.remote_address}",
                "last_seen_at": u.last_at,
            }
            for u in links.list_unknown_stations(tx)
        ]

    return await store.read(work)


async def remove_station(store: Store, station_id: str) -> None:
    """Remove a station; raise UnknownStation."""
    await store.write(lambda tx: removal.remove_station(tx, station_id))


# --- tokens --------------------------------------------------------------------------------------


async def add_tokens(
    store: Store, settings: Settings, values: Iterable[str], *, did: str, kind: str, sites: str
) -> int:
    """Enrol tokens for `did`, or for one new holder each, and return how many."""
    enrolment = enrolment_of(store, settings)
    allowed = tuple(part.strip() for part in sites.split(",") if part.strip())
    records = []
    for value in values:
        _, normal = enrolled(value, kind=kind)
        owner = did or f"did:denso:driver:{normal.lower()}"
        known = await store.read(lambda tx, o=owner: identities.holder_of_did(tx, o))  # type: ignore[misc]
        if known is None:
            await enrolment.put_holders([Holder(did=owner, allowed_sites=allowed)], by=BY)
        records.append(TokenRecord(value=value, kind=kind, did=owner))
    return len(await enrolment.put_tokens(records, by=BY))


async def list_tokens(store: Store, settings: Settings) -> list[dict[str, object]]:
    """Return the enrolled tokens."""
    found = await store.read(lambda tx: identities.list_tokens(tx))
    return [
        {"kind": t.kind, "value": t.value, "did": t.did or "-", "state": t.state} for t in found
    ]


async def set_token_state(store: Store, settings: Settings, value: str, state: str) -> None:
    """Set a token's state, whatever its kind; raise NotFound."""
    kind, normal = enrolled(value)

    def work(tx: Tx) -> None:
        known = identities.find_token(tx, str(kind), normal)
        known = known or identities.find_token_any_kind(tx, normal)
        if known is None:
            raise NotFound(f"token {value!r} is not enrolled")
        identities.set_token_state(tx, known.kind, known.value, state)

    await store.write(work)


# --- credentials ---------------------------------------------------------------------------------


def claim_desk(store: Store) -> ClaimDesk:
    """Return the desk that keeps claims about holders in `store`."""
    return ClaimDesk(store=store, clock=Clock())


async def list_credentials(store: Store, *, did: str) -> list[dict[str, object]]:
    """Return the claims about a holder, or all, with what was used of their allowances."""

    def work(tx: Tx) -> list[Credential]:
        return identities.credentials_of(tx, did) if did else identities.list_credentials(tx)

    return [
        {
            "credential_id": c.credential_id,
            "subject": c.subject,
            "kind": c.kind,
            "status": c.status,
            "valid_until": c.valid_until or "-",
            "used_kwh": round(c.used_kwh, 3),
            "allowance_kwh": "-" if c.allowance_kwh is None else c.allowance_kwh,
        }
        for c in await store.read(work)
    ]


# --- API tokens ----------------------------------------------------------------------------------


async def add_api_token(store: Store, *, label: str, role: str, at: datetime) -> str:
    """Make an API token, keep its hash, and return it."""
    if role not in ROLES:
        raise InvalidInput(f"role is {role!r}; permitted: {', '.join(ROLES)}")
    token = new_token()
    await store.write(
        lambda tx: access.add_api_token(
            tx, hash_=token_hash(token), prefix=token_prefix(token), role=role, label=label, at=at
        )
    )
    return token


async def list_api_tokens(store: Store, settings: Settings) -> list[dict[str, object]]:
    """Return the API tokens without their secrets."""
    return [
        {
            "prefix": t.prefix,
            "role": t.role,
            "label": t.label,
            "created_at": t.created_at,
            "revoked_at": t.revoked_at or "-",
        }
        for t in await store.read(access.list_api_tokens)
    ]


async def revoke_api_token(store: Store, prefix: str, *, at: datetime) -> None:
    """Revoke the one token in force whose prefix begins with `prefix`."""

    def work(tx: Tx) -> None:
        found = [
            t
            for t in access.list_api_tokens(tx)
            if t.prefix.startswith(prefix) and t.revoked_at is None
        ]
        if len(found) != 1:
            raise NotFound(f"{len(found)} tokens in force begin with {prefix!r}; name exactly one")
        access.revoke_api_token(tx, found[0].token_id, at)

    await store.write(work)


# --- files ---------------------------------------------------------------------------------------


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidInput(f"{path}: cannot be read: {why}") from error


async def import_file(store: Store, settings: Settings, kind: str, file: Path) -> int:
    """Import a CSV file, or the first concept's JSON; return how many records it had."""
    enrolment = enrolment_of(store, settings)
    text = _text(file)
    if kind != "concept":
        count, _ = await enrolment.import_csv(kind, text, by=BY)
        return count
    try:
        payload = orjson.loads(text)
    except ValueError as error:
        raise InvalidInput(f"{file}: not JSON: {error}") from error
    if not isinstance(payload, dict):
        raise InvalidInput(f"{file}: must be an object with drivers, vehicles, chargers")
    done = await enrolment.import_concept(payload, by=BY)
    return sum(done.values())


# --- plans ---------------------------------------------------------------------------------------


def case_from_file(path: Path) -> PlanningCase:
    """Return the planning case in a JSON file; raise InvalidInput with the file and the field."""
    text = _text(path)
    try:
        return PlanningCase.from_json(text)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from error


async def planned_site(
    store: Store, settings: Settings, site_id: str | None
) -> tuple[PlanningCase, Plan]:
    """Return the case and plan of a site as it is on record now; nothing is sent."""
    options = planning_options(settings)
    now = clock_from(settings).now()
    assert site_id is not None
    known = await store.read(
        lambda tx: snapshot(
            tx,
            site_id,
            now=now,
            horizon_h=options.horizon_h,
            carbon_id=options.carbon_of.get(site_id, "default"),
            site_terms=options.terms_of.get(site_id, NO_TERMS),
        )
    )
    case = planning_case(
        known, Surroundings(), now=now, horizon_h=options.horizon_h, slot_s=options.slot_s
    )
    return case, plan(case)


def describe_plan(case: PlanningCase, made: Plan) -> str:
    """Return a plan as text: one line a session, its power as a bar chart over the slots."""
    lines = [
        f"site {case.site_id}  {case.now_at:%Y-%m-%d %H:%MZ}  {made.strategy}  {made.status}",
        f"peak {made.peak_kw:.2f} kW  cost {made.cost_eur:.2f} EUR  "
        f"co2 {made.co2_kg:.2f} kg  shortfall {made.shortfall_kwh:.2f} kWh",
    ]
    for circuit in case.circuits:
        lines.append(f"circuit {circuit.circuit_id}{_limits_of(circuit)}")
    for bound in made.bindings:
        place = bound.circuit_id or "site"
        worth = f", worth up to {max(bound.value_eur):.3f} EUR" if bound.value_eur else ""
        lines.append(f"binding {place} {bound.limit} in {len(bound.slots)} slots{worth}")
    most_kw = max((kw for s in made.sessions for kw in s.power_kw), default=0.0)
    for wanted, row in zip(case.sessions, made.sessions, strict=True):
        bar = "".join(_BLOCKS[round(8 * kw / most_kw) if most_kw else 0] for kw in row.power_kw)
        missing = f"  short {row.shortfall_kwh:.2f} ({row.shortfall_reason})"
        lines.append(
            f"{wanted.session_id:28.28} {wanted.required_kwh:7.2f} kWh by "
            f"{wanted.departs_at:%d %H:%M}  |{bar}|  {row.reason}"
            f"{missing if row.shortfall_kwh > 0 else ''}"
        )
    # A plan's notes begin with those of its case.
    return "\n".join([*lines, *(f"note: {note}" for note in made.notes)])


def _limits_of(circuit: Circuit) -> str:
    """Return a circuit's place and limits in words, the least of each series."""
    words = f" under {circuit.parent_id or 'the site'}"
    if circuit.limit_a:
        words += "  " + "/".join(f"{min(series):g}" for series in circuit.limit_a if series) + " A"
    return words + (f"  {min(circuit.limit_kw):g} kW" if circuit.limit_kw else "")


# --- frames --------------------------------------------------------------------------------------


def frames_from_file(path: Path) -> list[dict[str, Any]]:
    """Return recorded frames: `{"station_id", "version", "frame"[, "direction"]}` per line.

    Frames that went out to the station (`direction` other than "in") are left out, and so are its
    answers to them. Raises InvalidInput with the line that is wrong.
    """
    found = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            item = orjson.loads(line)
        except ValueError as error:
            raise InvalidInput(f"{path}:{number}: not JSON: {error}") from error
        if not isinstance(item, dict) or not isinstance(item.get("frame"), list | str):
            raise InvalidInput(f"{path}:{number}: it must be an object with station_id and frame")
        if item.get("direction", "in") == "in" and not _is_answer(item["frame"]):
            found.append(item)
    return found


def _is_answer(frame: list[Any] | str) -> bool:
    if isinstance(frame, str):
        try:
            frame = orjson.loads(frame)
        except ValueError:
            return False
    return isinstance(frame, list) and frame[:1] in ([3], [4], [5])


async def replay_frames(path: Path) -> dict[str, object]:
    """Feed recorded frames through a gateway into a scratch store; return what came of them."""
    from csms.replay import replay

    return await replay(frames_from_file(path))


async def compared(store: Store, site_id: str) -> dict[str, Any]:
    """Return how a site's strategy and its challenger planned the same cases lately."""

    def work(tx: Tx) -> dict[str, Any]:
        stations.get_site(tx, site_id)
        return summary(site_id, rivals.comparisons(tx, site_id, limit=RECENT))

    return await store.read(work)
