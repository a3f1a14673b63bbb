"""Credentials: what claims about a subject are worth at a site and an instant, and their import.

Stored claims and, later, verified ones are the same `Credential`; only `is_verified` differs.
Validity, status, trust, site, hours and allowance are evaluated anew on every decision.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal
from zoneinfo import ZoneInfo

from csms.core.errors import DidSyntaxError, InvalidInput
from csms.core.model import AuthorizationStatus, Credential, Evse, Holder, Site, Vehicle
from csms.identity.did import Did, parse

EVERY_SITE: Final = "*"
MEMBERSHIP_KINDS: Final = frozenset({"Employee", "FleetDriver", "Member", "Visitor"})
"""Credential types that let their subject charge; the suffix "Credential" is optional."""
PRIORITY_KINDS: Final = frozenset({"PriorityChargingSlot"})

EmptySites = Literal["none", "all"]


class Reason(StrEnum):
    """Why a decision came out as it did; stored, shown and counted."""

    ACCEPTED = "accepted"
    FREE_CHARGING = "free_charging"
    TOKEN_UNKNOWN = "token_unknown"
    TOKEN_BLOCKED = "token_blocked"
    TOKEN_SUSPENDED = "token_suspended"
    TOKEN_LOST = "token_lost"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_NOT_YET = "token_not_yet"
    SESSION_USED = "session_used"
    SESSION_WRONG_CONNECTOR = "session_wrong_connector"
    HOLDER_DISABLED = "holder_disabled"
    ISSUER_UNTRUSTED = "issuer_untrusted"
    CREDENTIAL_MISSING = "credential_missing"
    CREDENTIAL_REVOKED = "credential_revoked"
    CREDENTIAL_SUSPENDED = "credential_suspended"
    CREDENTIAL_EXPIRED = "credential_expired"
    CREDENTIAL_NOT_YET = "credential_not_yet"
    SITE_REFUSED = "site_refused"
    EVSE_REFUSED = "evse_refused"
    MASTER_STARTS_NOTHING = "master_starts_nothing"
    CERTIFICATE_REFUSED = "certificate_refused"
    TIME_REFUSED = "time_refused"
    ALLOWANCE_USED = "allowance_used"
    ASSURANCE_LOW = "assurance_low"
    CONCURRENT = "concurrent"
    RATE_LIMITED = "rate_limited"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one credential is worth here and now; `refusal` is None if it suffices."""

    credential: Credential
    refusal: AuthorizationStatus | None = None
    reason: Reason = Reason.ACCEPTED

    @property
    def is_sufficient(self) -> bool:
        """Whether the credential holds here and now."""
        return self.refusal is None


def plain_kind(kind: str) -> str:
    """Return a credential type without its optional suffix "Credential"."""
    return kind.removesuffix("Credential")


def grants_access(credential: Credential) -> bool:
    """Return whether the type is a membership; profiles, certificates and slots open no charger."""
    return plain_kind(credential.kind) in MEMBERSHIP_KINDS


def grants_priority(credential: Credential) -> bool:
    """Return whether the type may state a priority: memberships and priority slots."""
    return grants_access(credential) or plain_kind(credential.kind) in PRIORITY_KINDS


def permits_site(sites: Sequence[str], site_id: str) -> bool:
    """Return whether `sites` covers `site_id`: none if empty, all with the entry "*"."""
    return site_id in sites or EVERY_SITE in sites


def permits_time(hours: Sequence[tuple[int, int]], *, time_zone: str, now: datetime) -> bool:
    """Return whether `now` lies in one of the windows [from, until) of the site's local day.

    Minutes of the day as the clock on the wall shows them; a window with from > until passes
    midnight. No window permits all.
    """
    if not hours:
        return True
    local = now.astimezone(ZoneInfo(time_zone))
    minute = local.hour * 60 + local.minute
    return any(
        start <= minute < until if start <= until else minute >= start or minute < until
        for start, until in hours
    )


def evaluate(
    credentials: Iterable[Credential],
    *,
    site: Site,
    evse_id: int | None,
    trusted_issuers: Sequence[str],
    now: datetime,
) -> tuple[Verdict, ...]:
    """Judge each credential for `site`; `evse_id` None leaves the EVSE unchecked.

    `trusted_issuers` empty trusts all. Trust comes first: what a stranger says is not read at all.
    """
    return tuple(
        _verdict(credential, site=site, evse_id=evse_id, trusted=trusted_issuers, now=now)
        for credential in credentials
    )


def paying(
    credentials: Iterable[Credential],
    *,
    site: Site,
    trusted_issuers: Sequence[str],
    now: datetime,
) -> Credential | None:
    """Return the claim whose allowance a stay begun at `now` uses, None if it uses none.

    It uses none while a claim without an allowance suffices. What is used up pays only where
    nothing else does: the last stay may take more than was left.
    """
    given = {claim.credential_id: claim for claim in credentials if grants_access(claim)}
    verdicts = evaluate(
        (replace(claim, used_kwh=0.0) for claim in given.values()),
        site=site,
        evse_id=None,
        trusted_issuers=trusted_issuers,
        now=now,
    )
    good = [given[v.credential.credential_id] for v in verdicts if v.is_sufficient]
    if any(claim.allowance_kwh is None for claim in good):
        return None
    with_rest = [claim for claim in good if claim.used_kwh < (claim.allowance_kwh or 0.0)]
    return next(iter(with_rest or good), None)


def _verdict(
    credential: Credential,
    *,
    site: Site,
    evse_id: int | None,
    trusted: Sequence[str],
    now: datetime,
) -> Verdict:
    def refused(status: AuthorizationStatus, reason: Reason) -> Verdict:
        return Verdict(credential=credential, refusal=status, reason=reason)

    if trusted and credential.issuer not in trusted:
        return refused(AuthorizationStatus.INVALID, Reason.ISSUER_UNTRUSTED)
    if credential.status == "suspended":
        return refused(AuthorizationStatus.BLOCKED, Reason.CREDENTIAL_SUSPENDED)
    if credential.status != "valid":
        return refused(AuthorizationStatus.BLOCKED, Reason.CREDENTIAL_REVOKED)
    if credential.valid_until is not None and credential.valid_until <= now:
        return refused(AuthorizationStatus.EXPIRED, Reason.CREDENTIAL_EXPIRED)
    if credential.valid_from is not None and credential.valid_from > now:
        return refused(AuthorizationStatus.NOT_AT_THIS_TIME, Reason.CREDENTIAL_NOT_YET)
    if not permits_site(credential.sites, site.site_id):
        return refused(AuthorizationStatus.NOT_AT_THIS_LOCATION, Reason.SITE_REFUSED)
    if not permits_time(credential.hours, time_zone=site.time_zone, now=now):
        return refused(AuthorizationStatus.NOT_AT_THIS_TIME, Reason.TIME_REFUSED)
    if evse_id is not None and credential.evse_ids and evse_id not in credential.evse_ids:
        return refused(AuthorizationStatus.NOT_ALLOWED_TYPE_EVSE, Reason.EVSE_REFUSED)
    if credential.allowance_kwh is not None and credential.used_kwh >= credential.allowance_kwh:
        return refused(AuthorizationStatus.NO_CREDIT, Reason.ALLOWANCE_USED)
    return Verdict(credential=credential)


# --- the first concept's payloads ----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptCharger:
    """The first concept's charger. `eur_per_kwh` is its tariff, None if unstated."""

    did: str
    site_id: str
    evse: Evse
    location: str = ""
    eur_per_kwh: float | None = None


def claim(text: str, *, subject: str, sites: Sequence[str]) -> Credential:
    """Read a claim such as `Employee:TechCorp` into an unverified credential for `sites`."""
    kind, separator, organisation = (part.strip() for part in text.partition(":"))
    if not (kind and separator and organisation):
        raise InvalidInput(
            f"credentials holds {text!r:.60}; it must be <type>:<organisation>, "
            f"such as Employee:TechCorp"
        )
    return Credential(
        credential_id=f"{subject}#{kind}:{organisation}",
        kind=kind,
        issuer=organisation,
        subject=subject,
        sites=tuple(sites),
        organisation=organisation,
    )


def holder_from_concept(
    payload: Mapping[str, object], *, empty_sites: EmptySites = "none"
) -> Holder:
    """Read the first concept's driver.

    An empty or absent `allowed_sites` means no site, unless `empty_sites` is "all". A wish cannot
    raise a priority: `preferences.priority` counts only where it is negative, or "low".
    """
    did = _did(payload, "driver")
    sites = tuple(_texts(payload, "allowed_sites"))
    if not sites and empty_sites == "all":
        sites = (EVERY_SITE,)
    claims = tuple(
        claim(text, subject=did.text, sites=sites) for text in _texts(payload, "credentials")
    )
    preferences = _mapping(payload, "preferences")
    return Holder(
        did=did.text,
        kind=did.kind or "driver",
        name=_text(payload, "name"),
        organisation=claims[0].organisation if claims else "",
        allowed_sites=sites,
        credentials=claims,
        priority=_wished_priority(preferences),
        carbon_conscious=_flag(preferences, "carbon_conscious", where="preferences."),
    )


def vehicle_from_concept(
    payload: Mapping[str, object], *, at: datetime | None = None, owner_did: str = ""
) -> Vehicle:
    """Read the first concept's vehicle; `at` is when its state of charge was stated."""
    did = _did(payload, "vehicle")
    usual = Vehicle(vehicle_id=did.text)
    power_kw = _number(payload, "max_charge_power_kw", low=0.1, high=4000.0)
    soc_percent = _number(payload, "current_soc_percent", low=0.0, high=100.0)
    vehicle = Vehicle(
        vehicle_id=did.text,
        name=_text(payload, "name"),
        battery_kwh=_number(payload, "battery_capacity_kwh", low=0.5, high=5000.0)
        or usual.battery_kwh,
        consumption_wh_per_km=_number(
            payload, "nominal_consumption_wh_per_km", low=1.0, high=20_000.0
        )
        or usual.consumption_wh_per_km,
        # The concept knows one power; which current it is for depends on the charger.
        max_kw=power_kw or usual.max_kw,
        max_dc_kw=power_kw or usual.max_dc_kw,
        owner_did=owner_did,
    )
    if soc_percent is None:
        return vehicle
    return replace(vehicle, soc=soc_percent / 100.0, soc_at=at, soc_source="declared")


def charger_from_concept(payload: Mapping[str, object]) -> ConceptCharger:
    """Read the first concept's charger; its station id is the last part of its DID."""
    did = _did(payload, "charger")
    site_id = _text(payload, "site_id")
    if not site_id:
        raise InvalidInput("charger.site_id is missing; it must name the site")
    max_kw = _number(payload, "max_power_kw", low=0.1, high=4000.0)
    if max_kw is None:
        raise InvalidInput("charger.max_power_kw is missing; it must be kW")
    evse = Evse(
        station_id=did.identifier.rpartition(":")[2],
        evse_id=1,
        max_kw=max_kw,
        status=_availability(payload.get("availability", True)),
    )
    return ConceptCharger(
        did=did.text,
        site_id=site_id,
        evse=evse,
        location=_location(payload.get("location", "")),
        eur_per_kwh=_tariff(payload.get("tariff")),
    )


def _did(payload: Mapping[str, object], kind: str) -> Did:
    key = next((k for k in ("did", f"{kind}_did", "id") if k in payload), None)
    if key is None:
        raise InvalidInput(f"{kind}.did is missing; it must be a DID such as did:denso:{kind}:abc")
    raw = payload[key]
    try:
        did = parse(raw) if isinstance(raw, str) else None
    except DidSyntaxError as error:
        raise InvalidInput(f"{kind}.{key}: {error}") from error
    if did is None or did.kind not in ("", kind):
        raise InvalidInput(f"{kind}.{key} is {raw!r:.60}; it must be the DID of a {kind}")
    return did


def _text(payload: Mapping[str, object], key: str) -> str:
    raw = payload.get(key)
    if raw is None:
        return ""
    if not isinstance(raw, str):
        raise InvalidInput(f"{key} is {raw!r:.60}; it must be text")
    return raw.strip()


def _texts(payload: Mapping[str, object], key: str) -> list[str]:
    raw = payload.get(key)
    if raw is None:
        return []
    if not isinstance(raw, list | tuple) or not all(isinstance(r, str) and r.strip() for r in raw):
        raise InvalidInput(f"{key} is {raw!r:.60}; it must be a list of texts")
    return [str(r).strip() for r in raw]


def _mapping(payload: Mapping[str, object], key: str) -> Mapping[str, object]:
    raw = payload.get(key)
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise InvalidInput(f"{key} is {raw!r:.60}; it must be an object")
    return raw


def _flag(payload: Mapping[str, object], key: str, *, where: str = "") -> bool:
    raw = payload.get(key, False)
    if not isinstance(raw, bool):
        raise InvalidInput(f"{where}{key} is {raw!r:.60}; it must be true or false")
    return raw


def _number(payload: Mapping[str, object], key: str, *, low: float, high: float) -> float | None:
    raw = payload.get(key)
    if raw is None:
        return None
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
        raise InvalidInput(f"{key} is {raw!r:.60}; it must be a number")
    if not low <= raw <= high:
        raise InvalidInput(f"{key} is {raw!r:.60}; it must be between {low:g} and {high:g}")
    return float(raw)


def _wished_priority(preferences: Mapping[str, object]) -> int:
    raw = preferences.get("priority", 0)
    if isinstance(raw, str):
        return -1 if raw.strip().lower() == "low" else 0
    if isinstance(raw, bool) or not isinstance(raw, int):
        raise InvalidInput(
            f"preferences.priority is {raw!r:.60}; it must be a whole number or text"
        )
    return max(min(raw, 0), -9)


def _availability(raw: object) -> str:
    if isinstance(raw, bool):
        return "Available" if raw else "Unavailable"
    if isinstance(raw, str):
        return "Available" if raw.strip().lower() == "available" else "Unavailable"
    raise InvalidInput(f"availability is {raw!r:.60}; it must be true, false or text")


def _location(raw: object) -> str:
    if isinstance(raw, str):
        return raw.strip()
    if isinstance(raw, Mapping):
        return ", ".join(f"{key} {value}" for key, value in raw.items())
    if isinstance(raw, list | tuple):
        return ", ".join(str(value) for value in raw)
    raise InvalidInput(f"location is {raw!r:.60}; it must be text, an object or a list")


def _tariff(raw: object) -> float | None:
    key = "tariff"
    if isinstance(raw, Mapping):
        names = ("eur_per_kwh", "price_per_kwh", "energy_price_per_kwh", "rate_per_kwh", "rate")
        found = next((name for name in names if name in raw), None)
        if found is None:
            raise InvalidInput(f"tariff has {', '.join(map(str, raw))}; it must have {names[0]}")
        key, raw = f"tariff.{found}", raw[found]
    return _number({key: raw}, key, low=-10.0, high=100.0)
