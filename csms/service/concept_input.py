"""The first concept's JSON for a session: who, what, where, for which trip."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from csms.core.errors import InvalidInput
from csms.identity import did

_KNOWN = frozenset(
    {"driver", "driver_did", "vehicle", "vehicle_did", "charger", "charger_did", "trip"}
)
_TRIP = frozenset({"distance_km", "energy_kwh", "departure_time", "departs_at", "destination"})

Object = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A request as sent: each subject as its DID, with its object where one was sent."""

    driver_did: str
    driver: Object | None
    vehicle_did: str
    vehicle: Object | None
    charger_did: str
    charger: Object | None
    distance_km: float | None
    energy_kwh: float | None
    departs_at: datetime
    is_naive: bool
    """The departure came without an offset: it is meant in the site's own time."""

    def departure(self, time_zone: str) -> datetime:
        """Return the departure, UTC."""
        at = self.departs_at
        return (at.replace(tzinfo=ZoneInfo(time_zone)) if self.is_naive else at).astimezone(UTC)


def read(payload: Object) -> Given:
    """Return what `payload` says; raise InvalidInput or DidSyntaxError naming what is wrong."""
    unknown = sorted(set(payload) - _KNOWN)
    if unknown:
        raise InvalidInput(f"{unknown[0]} is not known; permitted: {', '.join(sorted(_KNOWN))}")
    trip = payload.get("trip")
    if not isinstance(trip, Mapping):
        raise InvalidInput("trip is missing; it must have distance_km and departure_time")
    unknown = sorted(set(trip) - _TRIP)
    if unknown:
        raise InvalidInput(f"trip.{unknown[0]} is not known; permitted: {', '.join(sorted(_TRIP))}")
    distance_km = _number(trip, "distance_km", most=5_000)
    energy_kwh = _number(trip, "energy_kwh", most=5_000)
    if distance_km is None and energy_kwh is None:
        raise InvalidInput("trip.distance_km is missing; it must be kilometres")
    departs_at = _instant(trip.get("departure_time", trip.get("departs_at")))
    driver_did, driver = _subject(payload, "driver")
    vehicle_did, vehicle = _subject(payload, "vehicle")
    charger_did, charger = _subject(payload, "charger")
    return Given(
        driver_did=driver_did,
        driver=driver,
        vehicle_did=vehicle_did,
        vehicle=vehicle,
        charger_did=charger_did,
        charger=charger,
        distance_km=distance_km,
        energy_kwh=energy_kwh,
        departs_at=departs_at,
        is_naive=departs_at.tzinfo is None,
    )


def station_id_of(charger_did: str) -> str:
    """Return the id of the station that a charger's DID names: its last part."""
    return did.parse(charger_did).identifier.rpartition(":")[2]


def _subject(payload: Object, kind: str) -> tuple[str, Object | None]:
    raw = payload.get(kind)
    if isinstance(raw, Mapping):
        text = next((raw[k] for k in ("did", f"{kind}_did", "id") if k in raw), None)
        where, sent = f"{kind}.did", raw
    else:
        # A client that knows both names may send the other one as null.
        named = payload.get(f"{kind}_did")
        text, where, sent = raw if named is None else named, f"{kind}_did", None
    if not isinstance(text, str):
        raise InvalidInput(f"{where} is missing; it must be a DID such as did:denso:{kind}:abc")
    parsed = did.parse(text)
    if parsed.kind not in ("", kind):
        raise InvalidInput(f"{where} is {text!r:.80}; it must be the DID of a {kind}")
    return parsed.text, sent


def _number(raw: Object, key: str, *, most: float) -> float | None:
    value = raw.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise InvalidInput(f"trip.{key} is {value!r:.40}; it must be between 0 and {most:g}")
    return float(value)


def _instant(raw: object) -> datetime:
    try:
        return datetime.fromisoformat(raw if isinstance(raw, str) else "")
    except ValueError as error:
        raise InvalidInput(
            f"trip.departure_time is {raw!r:.60}; it must be like 2026-01-31T07:30:00+01:00"
        ) from error
