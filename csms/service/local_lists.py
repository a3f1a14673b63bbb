"""Keeps each station's local authorization list in step with who may charge at its site.

While the centre is away a station decides by its list, so it holds only its own site's tokens,
each with an end date, and no DID (identity.md 5.2). A station's version is asked for once per link;
a list of another version than the one on record is sent anew, whole. Nothing is sent where
automation is off.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from csms.clock import Clock
from csms.core.commands import CommandResult, Outcome, RawCall
from csms.core.local_list import ListEntry, ListLimits, ListUpdate, changes, updates
from csms.core.model import (
    AccessPolicy,
    AuthorizationStatus,
    Holder,
    IdToken,
    OcppVersion,
    Site,
    Station,
    TokenRecord,
)
from csms.identity.alias import TokenKind
from csms.identity.policy import decide
from csms.service.authorization import TenantKeys
from csms.service.devices import Devices
from csms.service.local_list_messages import payload, size
from csms.store import identities, local_lists, stations
from csms.store.database import Store
from csms.store.local_lists import BEHIND, IN_STEP, NOT_SUPPORTED, REFUSED, LocalList
from csms.store.statements import Tx

log = structlog.get_logger(__name__)

RETRY = timedelta(hours=1)
"""A list that was refused is tried again after this."""
_AT_ONCE = 8
"""Stations that are brought into step at the same time."""
_PER_ROUND = 200
"""Stations looked at in one round of the job."""
_MOST_DIGITS = 9
_LENGTH = {OcppVersion.V16: 20, OcppVersion.V201: 36, OcppVersion.V21: 255}

_WIRE_KINDS = {
    TokenKind.FINGERPRINT: "Central",
    TokenKind.RFID: "ISO14443",
    TokenKind.MAC: "MacAddress",
    TokenKind.EMAID: "eMAID",
    TokenKind.KEY_CODE: "KeyCode",
    TokenKind.TEXT: "Central",
}
"""What a station can be told of. A one-time token is used up at the centre, a DID stays there."""

_KEYS_16 = ("LocalAuthListEnabled", "LocalAuthListMaxLength", "SendLocalListMaxLength")
_VARIABLES_201 = (
    ("Entries", "MaxSet"),
    ("ItemsPerMessage", "Actual"),
    ("BytesPerMessage", "Actual"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Registry:
    """Everybody who might be on a list, loaded once for all stations."""

    tokens: tuple[TokenRecord, ...]
    holders: Mapping[str, Holder]


@dataclass(slots=True)
class LocalLists:
    """Brings the lists of stations that are linked into step."""

    store: Store
    clock: Clock
    devices: Devices
    policies: Mapping[str, AccessPolicy]
    keys: TenantKeys
    enabled: bool = True
    _registry: _Registry | None = None
    _wanted: dict[str, list[ListEntry]] = field(default_factory=dict)
    _wanted_at: datetime | None = None
    _seen: int = -1
    _later: list[Station] = field(default_factory=list)
    """Stations that were due beyond what one round takes."""

    async def refresh(self) -> None:
        """Bring stations into step that need it: after a new link, a change of people, an hour."""
        if not (self.enabled and self.devices.automation):
            return
        now = self.clock.now()
        found = await self._look(now)
        due = {s.station_id: s for s in self._later}
        due |= {s.station_id: s for s, known, news in found if _is_due(s, known, now, news)}
        turn = list(due.values())
        turn, self._later = turn[:_PER_ROUND], turn[_PER_ROUND:]
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(station: Station) -> None:
            async with gate:
                await self.sync(station.station_id)

        await asyncio.gather(*(one(s) for s in turn))

    async def _look(self, now: datetime) -> list[tuple[Station, LocalList | None, bool]]:
        """Return linked stations that may be due with their lists, and whether people changed.

        Who may charge is read anew only where somebody changed it, or the hour is over.
        """
        is_old = self._wanted_at is None or now - self._wanted_at >= RETRY
        seen = self._seen

        def work(tx: Tx) -> tuple[int, _Registry | None, list[tuple[Station, LocalList | None]]]:
            changes = identities.changes(tx)
            is_news = is_old or changes != seen
            found = local_lists.of_linked(tx, all_of_them=is_news)
            return changes, _registry(tx) if is_news else None, found

        changes, registry, found = await self.store.read(work)
        if registry is not None:
            self._registry, self._wanted, self._wanted_at = registry, {}, now
            self._seen = changes
        return [(station, known, registry is not None) for station, known in found]

    async def sync(self, station_id: str, *, is_full: bool = False) -> LocalList:
        """Bring one station's list into step and return it; `is_full` sends it whole."""
        station, site, known, held = await self.store.read(lambda tx: _load(tx, station_id))
        known = known or LocalList(station_id=station.station_id, checked_at=self.clock.now())
        if known.link_id != station.link_id or is_full:
            known = await self._asked(station, known)
            if known.state == NOT_SUPPORTED:
                return await self._keep(known)
        wanted = await self._wanted_at_site(site)
        entries = [self._at(station, e) for e in wanted if len(e.value) <= _longest(station)]
        if known.limits.max_entries:
            entries = entries[: known.limits.max_entries]
        is_full = is_full or not known.is_ours
        if is_full:
            held = {}
        known = await self._send(station, known, entries, held, is_full=is_full)
        return await self._keep(known)

    async def _wanted_at_site(self, site: Site) -> list[ListEntry]:
        found = self._wanted.get(site.site_id)
        if found is None:
            registry = self._registry
            if registry is None:
                registry = self._registry = await self.store.read(_registry)
                self._wanted_at = self.clock.now()
            found = self._wanted[site.site_id] = await asyncio.to_thread(
                self._entries, site, registry, self.clock.now()
            )
        return found

    def _entries(self, site: Site, registry: _Registry, now: datetime) -> list[ListEntry]:
        """Return who may charge at `site`, those with priority first, and who is blocked."""
        policy = self.policies.get(site.site_id, AccessPolicy())
        found: list[tuple[int, ListEntry]] = []
        for record in registry.tokens:
            kind = _WIRE_KINDS.get(TokenKind(record.kind))
            if kind is None or not self.keys.is_in_force(record.key_epoch) or record.station_id:
                continue
            holder = registry.holders.get(record.did)
            group = "" if holder is None else self.keys.group(holder.organisation)
            decision = decide(
                IdToken(value=record.value, kind=kind),
                record,
                holder,
                station_id="",
                site=site,
                evse_id=None,
                open_sessions=0,
                policy=policy,
                now=now,
                is_start=False,
                group=group,
            )
            is_blocked = decision.status is AuthorizationStatus.BLOCKED
            if not (decision.is_accepted or is_blocked):
                continue
            until = decision.expires_at or now + timedelta(seconds=policy.offline_horizon_s)
            entry = ListEntry(
                value=record.value,
                kind=kind,
                status=decision.status,
                expires_at=until.replace(microsecond=0),
                group=decision.group,
            )
            found.append((1 if is_blocked else -decision.priority, entry))
        return [entry for _, entry in sorted(found, key=lambda f: (f[0], f[1].key))]

    @staticmethod
    def _at(station: Station, entry: ListEntry) -> ListEntry:
        """Return the entry as the station reads the card."""
        if entry.kind == "ISO14443" and station.uid_byte_order_reversed:
            return replace(entry, value=bytes.fromhex(entry.value)[::-1].hex().upper())
        return entry

    async def _asked(self, station: Station, known: LocalList) -> LocalList:
        """Return the list with the station's own version and limits."""
        known = replace(
            known, link_id=station.link_id, firmware_version=station.firmware_version, detail=""
        )
        limits = await self._limits(station)
        known = replace(known, limits=limits or known.limits)
        result = await self._call(station, "GetLocalListVersion", {})
        answer = result.answer or {}
        version = answer.get("listVersion", answer.get("versionNumber"))
        if not isinstance(version, int) or isinstance(version, bool):
            if result.outcome in (Outcome.NOT_SENT, Outcome.NO_ANSWER):
                return replace(known, state=BEHIND, link_id=0)
            return replace(known, state=NOT_SUPPORTED, detail=result.error_code)
        if version < 0:
            # OCPP 1.6 §5.10: -1 says that local lists are not supported.
            return replace(known, state=NOT_SUPPORTED, detail=str(version))
        if version != known.version:
            # Somebody else's list, or none: whatever is there is replaced as a whole.
            version = max(version, known.version)
            known = replace(known, version=version, is_ours=False, state=BEHIND)
        return replace(known, state=BEHIND if known.state == NOT_SUPPORTED else known.state)

    async def _limits(self, station: Station) -> ListLimits | None:
        if station.version is OcppVersion.V16:
            result = await self._call(station, "GetConfiguration", {"key": list(_KEYS_16)})
            items = (result.answer or {}).get("configurationKey", [])
            values = {i.get("key"): i.get("value") for i in _objects(items)}
            return ListLimits(
                max_entries=_count(values.get("LocalAuthListMaxLength")),
                items_per_message=_count(values.get("SendLocalListMaxLength")),
            )
        asked = [
            {
                "component": {"name": "LocalAuthListCtrlr"},
                "variable": {"name": name},
                "attributeType": kind,
            }
            for name, kind in _VARIABLES_201
        ]
        result = await self._call(station, "GetVariables", {"getVariableData": asked})
        found = {
            i.get("variable", {}).get("name"): i.get("attributeValue")
            for i in _objects((result.answer or {}).get("getVariableResult", []))
            if i.get("attributeStatus") == "Accepted"
        }
        return ListLimits(
            max_entries=_count(found.get("Entries")),
            items_per_message=_count(found.get("ItemsPerMessage")),
            bytes_per_message=_count(found.get("BytesPerMessage")),
        )

    async def _send(
        self,
        station: Station,
        known: LocalList,
        entries: Sequence[ListEntry],
        held: Mapping[tuple[str, str], ListEntry],
        *,
        is_full: bool,
    ) -> LocalList:
        """Send what is missing; after a mismatch or a failure send it whole, once."""
        horizon_s = self.policies.get(station.site_id, AccessPolicy()).offline_horizon_s
        new, removed = changes(entries, held, renew=timedelta(seconds=horizon_s / 2))
        if not new and not removed:
            # An empty list is never sent: a station without one asks, or decides by itself.
            return replace(known, state=IN_STEP)
        messages = updates(
            new,
            removed,
            is_full=is_full,
            version=known.version + 1,
            limits=known.limits,
            size=lambda message: size(station.version, message),
        )
        is_revocation = bool(removed) or any(
            e.status is not AuthorizationStatus.ACCEPTED for e in new
        )
        for message in messages:
            result = await self._call(station, "SendLocalList", payload(station.version, message))
            if not result.is_accepted:
                known = replace(known, detail=result.status or result.error_code)
                if result.outcome in (Outcome.NOT_SENT, Outcome.NO_ANSWER):
                    return replace(known, is_ours=False, state=BEHIND, link_id=0)
                if result.outcome is Outcome.NOT_SUPPORTED or result.status == "NotSupported":
                    return replace(known, is_ours=False, state=NOT_SUPPORTED)
                if is_full:
                    return replace(known, version=message.version, is_ours=False, state=REFUSED)
                log.warning(
                    "local list is sent whole", station_id=station.station_id, why=known.detail
                )
                known = replace(known, version=message.version)
                return await self._send(station, known, entries, {}, is_full=True)
            known = replace(known, version=message.version, is_ours=True, detail="")
            await self._took(station.station_id, message, known)
        if is_revocation and not is_full:
            await self._call(station, "ClearCache", {})
        return replace(known, state=IN_STEP)

    async def _took(self, station_id: str, message: ListUpdate, known: LocalList) -> None:
        def work(tx: Tx) -> None:
            local_lists.put_entries(
                tx,
                station_id,
                message.entries,
                removed=message.removed,
                is_full=message.is_full,
            )
            local_lists.keep(tx, known)

        await self.store.write(work)

    async def _keep(self, known: LocalList) -> LocalList:
        known = replace(known, checked_at=self.clock.now())
        await self.store.write(lambda tx: local_lists.keep(tx, known))
        return known

    async def _call(
        self, station: Station, action: str, members: Mapping[str, Any]
    ) -> CommandResult:
        command = RawCall(
            station_id=station.station_id, action=action, payload_json=json.dumps(members)
        )
        _, result = await self.devices.run(command, asked_by="tasco")
        return result


def _is_due(station: Station, known: LocalList | None, now: datetime, is_news: bool) -> bool:
    if known is None:
        return True
    if known.state == NOT_SUPPORTED:
        return known.firmware_version != station.firmware_version
    if known.state == REFUSED and now - known.checked_at < RETRY:
        return False
    return is_news or known.link_id != station.link_id or known.state != IN_STEP


def _registry(tx: Tx) -> _Registry:
    return _Registry(
        tokens=tuple(identities.list_tokens(tx, limit=1_000_000)),
        holders={h.did: h for h in identities.list_holders(tx, limit=1_000_000)},
    )


def _load(
    tx: Tx, station_id: str
) -> tuple[Station, Site, LocalList | None, dict[tuple[str, str], ListEntry]]:
    station = stations.get_station(tx, station_id)
    return (
        station,
        stations.get_site(tx, station.site_id),
        local_lists.find(tx, station.station_id),
        local_lists.entries(tx, station.station_id),
    )


def _longest(station: Station) -> int:
    return _LENGTH.get(station.version or OcppVersion.V16, 36)


def _objects(items: object) -> list[Mapping[str, Any]]:
    return [i for i in items if isinstance(i, dict)] if isinstance(items, list) else []


def _count(text: object) -> int:
    """Return a limit that a station tells, 0 for none; one beyond any list is none."""
    digits = text.strip() if isinstance(text, str) else ""
    return int(digits) if digits.isdecimal() and len(digits) <= _MOST_DIGITS else 0
