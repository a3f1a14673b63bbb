"""Who and what may charge: holders, vehicles, trips, tokens and stations, however they come in.

A holder's DID gets its names on the wire at once: a keyed 20-character fingerprint, which fits
every version, and the DID itself for stations that can send it whole. What is removed stays out
of decisions from the next one on. Every change is an event with who asked for it.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from csms.clock import Clock
from csms.core.errors import Conflict, InvalidInput
from csms.core.model import Event, Evse, Holder, Station, TokenRecord, Trip, Vehicle
from csms.identity import alias, credentials, did
from csms.identity.credentials import EmptySites
from csms.service import csv_import
from csms.service.authorization import TenantKeys
from csms.service.ids import new_id
from csms.service.matching import rematch
from csms.service.passwords import hash_password
from csms.store import identities, journal, links, stations, trips
from csms.store.database import Store
from csms.store.statements import Tx
from csms.telemetry import token_hint

_ALL = 1_000_000
_CONCEPT_LISTS = ("drivers", "vehicles", "chargers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """The sites whose plans a change concerns, and why in a word."""

    why: str
    site_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StationRegistration:
    """A station as an operator registers it; `password` None lets it in without one."""

    station_id: str
    site_id: str
    name: str = ""
    password: str | None = None
    security_profile: int = 1
    serial_number: str = ""
    registration: str = "Accepted"
    uid_byte_order_reversed: bool = False
    evses: tuple[Evse, ...] = ()


class Enrolment:
    """Keeps the people, vehicles and stations of an installation."""

    def __init__(
        self, *, store: Store, keys: TenantKeys, clock: Clock, empty_sites: EmptySites = "none"
    ) -> None:
        self.store = store
        self.keys = keys
        self.clock = clock
        self.empty_sites = empty_sites

    # --- people --------------------------------------------------------------------------------

    async def put_holders(
        self, holders: Sequence[Holder], *, by: str, is_new: bool = False
    ) -> Changed:
        """Enrol or replace holders, all or none, with the names of their DIDs.

        Raises DidSyntaxError, InvalidInput for a kind of DID it is not, and Conflict if a DID
        exists (`is_new`) or differs from another's only in case.
        """
        for holder in holders:
            _check_did(holder.did)
        now = self.clock.now()

        def work(tx: Tx) -> Changed:
            touched: list[str] = []
            for holder in holders:
                self.keep_holder(tx, holder, is_new=is_new)
                touched.extend(rematch(tx, holder.did, now=now))
                _note(tx, now, "holder enrolled", by, {"holder": token_hint(holder.did)})
            return Changed(why="holder changed", site_ids=_once(touched))

        return await self.store.write(work)

    def keep_holder(self, tx: Tx, holder: Holder, *, is_new: bool = False) -> None:
        """Store a holder with its claims and its names inside the caller's transaction."""
        known = identities.holder_of_folded_did(tx, holder.did)
        if known is not None and (is_new or known.did != holder.did):
            same = "exists" if known.did == holder.did else "differs only in case from another"
            raise Conflict(f"holder {holder.did} {same}")
        identities.upsert_holder(tx, holder)
        for claim in holder.credentials:
            stored = identities.find_credential(tx, claim.credential_id)
            if stored is not None and stored.status != "valid":
                # What the operator revoked stays so when its holder is imported again.
                claim = replace(claim, status=stored.status)
            identities.upsert_credential(tx, claim)
        self._keep_names(tx, holder.did)

    async def keep_names(self) -> None:
        """Give every holder the names of the keys in force: they change with the keys."""

        def missing(tx: Tx) -> list[str]:
            known = {(t.kind, t.value) for t in identities.list_tokens(tx, limit=_ALL)}
            return [
                who
                for who in identities.list_dids(tx)
                if any(
                    (alias.TokenKind.FINGERPRINT, value) not in known
                    for value, _ in self.keys.fingerprints(who)
                )
            ]

        unnamed = await self.store.read(missing)
        if unnamed:

            def work(tx: Tx) -> None:
                for who in unnamed:
                    self._keep_names(tx, who)

            await self.store.write(work)

    def _keep_names(self, tx: Tx, holder_did: str) -> None:
        """Enrol the names of a DID that are not enrolled yet.

        A name that the operator blocked stays blocked: when its holder is imported again, and when
        a new key gives it another spelling.
        """
        by_epoch = self.keys.fingerprints(holder_did)
        kept = [
            identities.find_token(tx, alias.TokenKind.FINGERPRINT, value) for value, _ in by_epoch
        ]
        state = next((t.state for t in kept if t is not None), "active")
        for (value, epoch), known in zip(by_epoch, kept, strict=True):
            if known is None:
                identities.upsert_token(
                    tx,
                    TokenRecord(
                        value=value,
                        kind=alias.TokenKind.FINGERPRINT,
                        did=holder_did,
                        key_epoch=epoch,
                        state=state,
                    ),
                )
        folded = did.fold(holder_did)
        if not alias.is_sendable(folded):
            return
        if identities.find_token(tx, alias.TokenKind.DID, folded) is None:
            identities.upsert_token(
                tx, TokenRecord(value=folded, kind=alias.TokenKind.DID, did=holder_did)
            )

    async def remove_holder(self, holder_did: str, *, by: str) -> Changed:
        """Remove a holder with its tokens, claims and trips; its sessions stay, without a name."""
        now = self.clock.now()

        def work(tx: Tx) -> Changed:
            identities.delete_holder(tx, holder_did)
            _note(tx, now, "holder removed", by, {"holder": token_hint(holder_did)})
            return Changed(why="holder removed")

        return await self.store.write(work)

    async def put_vehicles(
        self, vehicles: Sequence[Vehicle], *, by: str, is_new: bool = False
    ) -> Changed:
        """Add or replace vehicles, all or none; raise Conflict if one exists (`is_new`)."""
        now = self.clock.now()

        def work(tx: Tx) -> Changed:
            touched: list[str] = []
            for vehicle in vehicles:
                known = identities.find_vehicle(tx, vehicle.vehicle_id)
                if known is not None and is_new:
                    raise Conflict(f"vehicle {vehicle.vehicle_id} exists")
                if known is not None and vehicle.soc is None:
                    # A reading is a fact about the car; writing its other figures keeps it.
                    vehicle = replace(
                        vehicle, soc=known.soc, soc_at=known.soc_at, soc_source=known.soc_source
                    )
                identities.upsert_vehicle(tx, vehicle)
                if vehicle.owner_did:
                    touched.extend(rematch(tx, vehicle.owner_did, now=now))
                _note(tx, now, "vehicle kept", by, {"vehicle": token_hint(vehicle.vehicle_id)})
            return Changed(why="vehicle changed", site_ids=_once(touched))

        return await self.store.write(work)

    async def remove_vehicle(self, vehicle_id: str, *, by: str) -> None:
        """Remove a vehicle."""
        now = self.clock.now()

        def work(tx: Tx) -> None:
            identities.delete_vehicle(tx, vehicle_id)
            _note(tx, now, "vehicle removed", by, {"vehicle": token_hint(vehicle_id)})

        await self.store.write(work)

    async def put_trips(self, declared: Sequence[Trip], *, by: str) -> Changed:
        """Declare or replace trips, all or none; open sessions are matched to them at once.

        Raises NotFound for an unknown holder or vehicle, InvalidInput for a trip without a need.
        """
        now = self.clock.now()

        def work(tx: Tx) -> Changed:
            holders: list[str] = []
            for trip in declared:
                if trip.distance_km is None and trip.energy_kwh is None:
                    raise InvalidInput("trip has no need; give distance_km or energy_kwh")
                identities.get_holder(tx, trip.holder_did)
                if trip.vehicle_id:
                    identities.get_vehicle(tx, trip.vehicle_id)
                trips.upsert_trip(tx, trip)
                holders.append(trip.holder_did)
                _note(tx, now, "trip declared", by, {"trip": trip.trip_id})
            touched = [site for who in _once(holders) for site in rematch(tx, who, now=now)]
            return Changed(why="trip declared", site_ids=_once(touched))

        return await self.store.write(work)

    async def remove_trip(self, trip_id: str, *, by: str) -> Changed:
        """Remove a trip and match the holder's open sessions again."""
        now = self.clock.now()

        def work(tx: Tx) -> Changed:
            trip = trips.get_trip(tx, trip_id)
            trips.delete_trip(tx, trip_id)
            _note(tx, now, "trip removed", by, {"trip": trip_id})
            return Changed(why="trip removed", site_ids=rematch(tx, trip.holder_did, now=now))

        return await self.store.write(work)

    # --- tokens --------------------------------------------------------------------------------

    async def put_tokens(
        self, records: Sequence[TokenRecord], *, by: str
    ) -> tuple[TokenRecord, ...]:
        """Enrol tokens as typed in and return them as kept, in their normal form.

        A token without a DID is a plain one of its own. Raises InvalidInput for a value no station
        can present, NotFound for a DID that nobody enrolled.
        """
        kept = tuple(self._normal(record) for record in records)
        now = self.clock.now()

        def work(tx: Tx) -> None:
            for record in kept:
                if record.did:
                    identities.get_holder(tx, record.did)
                identities.upsert_token(tx, record)
                hint = {"token": token_hint(record.value)}
                _note(
                    tx, now, "token kept", by, {**hint, "kind": record.kind, "state": record.state}
                )

        await self.store.write(work)
        return kept

    def _normal(self, record: TokenRecord) -> TokenRecord:
        kind, value = alias.enrolled(record.value, kind=record.kind)
        if record.valid_from and record.valid_until and record.valid_until <= record.valid_from:
            raise InvalidInput("token: valid_until must be after valid_from")
        return replace(record, kind=str(kind), value=value)

    async def remove_token(self, value: str, *, kind: str, by: str) -> None:
        """Forget a token by the value as typed in."""
        known_kind, normal = alias.enrolled(value, kind=kind)
        now = self.clock.now()

        def work(tx: Tx) -> None:
            identities.delete_token(tx, str(known_kind), normal)
            _note(tx, now, "token removed", by, {"token": token_hint(normal)})

        await self.store.write(work)

    # --- stations ------------------------------------------------------------------------------

    async def register_station(self, given: StationRegistration, *, by: str) -> Station:
        """Register a station before it connects, so that its first boot is accepted (K16)."""
        _check_station_id(given.station_id)
        hashed = ""
        if given.password is not None:
            hashed = await asyncio.to_thread(hash_password, given.password)
        station = Station(
            station_id=given.station_id,
            site_id=given.site_id,
            name=given.name,
            security_profile=given.security_profile,
            serial_number=given.serial_number,
            registration=given.registration,
            uid_byte_order_reversed=given.uid_byte_order_reversed,
        )
        now = self.clock.now()

        def work(tx: Tx) -> Station:
            stations.register_station(tx, station, credential_hash=hashed)
            for evse in given.evses:
                stations.upsert_evse(tx, replace(evse, station_id=station.station_id))
            links.forget_unknown_station(tx, station.station_id)
            _note(tx, now, "station registered", by, {}, station=station)
            return stations.get_station(tx, station.station_id)

        return await self.store.write(work)

    async def change_station(
        self, station_id: str, changes: Mapping[str, object], *, by: str
    ) -> Station:
        """Change a station's `name`, `heartbeat_interval_s`, `is_approved`, `automation`,
        `security_profile`, `serial_number` or `password`, and return it; the password itself is
        never recorded."""
        hashed = None
        password = changes.get("password")
        if isinstance(password, str):
            hashed = await asyncio.to_thread(hash_password, password)
        now = self.clock.now()

        def work(tx: Tx) -> Station:
            station = stations.get_station(tx, station_id)
            own_id = station.station_id
            name, interval = changes.get("name"), changes.get("heartbeat_interval_s")
            profile, serial = changes.get("security_profile"), changes.get("serial_number")
            stations.set_details(
                tx,
                own_id,
                name=name if isinstance(name, str) else None,
                heartbeat_interval_s=interval if isinstance(interval, int) else None,
                security_profile=profile if isinstance(profile, int) else None,
                serial_number=serial if isinstance(serial, str) else None,
            )
            if "is_approved" in changes:
                word = "Accepted" if changes["is_approved"] else "Pending"
                stations.set_registration(tx, own_id, word)
            if changes.get("is_rejected"):
                stations.set_registration(tx, own_id, "Rejected")
            if "automation" in changes:
                stations.set_automation(tx, own_id, automation=bool(changes["automation"]))
            if hashed is not None:
                links.set_credential(tx, own_id, hashed)
            shown = {k: "***" if k == "password" else v for k, v in changes.items()}
            _note(tx, now, "station changed", by, shown, station=station)
            return stations.get_station(tx, own_id)

        return await self.store.write(work)

    # --- files ---------------------------------------------------------------------------------

    async def import_csv(self, kind: str, text: str, *, by: str) -> tuple[int, Changed]:
        """Take a CSV file, all of it or nothing; return how many rows it had and what changed."""
        now = self.clock.now()
        if kind == "holders":
            holders = csv_import.holders(text)
            return len(holders), await self.put_holders(holders, by=by)
        if kind == "vehicles":
            vehicles = csv_import.vehicles(text, now=now)
            return len(vehicles), await self.put_vehicles(vehicles, by=by)
        if kind == "trips":
            declared = csv_import.trips(text, new_id=lambda: new_id("t", now))
            return len(declared), await self.put_trips(declared, by=by)
        if kind == "tokens":
            kept = await self.put_tokens(csv_import.tokens(text), by=by)
            return len(kept), Changed(why="tokens imported")
        raise InvalidInput(f"kind is {kind!r:.40}; permitted: {', '.join(csv_import.KINDS)}")

    async def import_concept(
        self, payload: Mapping[str, object], *, empty_sites: EmptySites | None = None, by: str
    ) -> dict[str, int]:
        """Take the first concept's drivers, vehicles and chargers, all or none.

        `empty_sites` says what a driver's empty `allowed_sites` means, by default what the
        configuration says. A driver's vehicle is the one whose `owner_did` or `driver_did` it is.
        """
        given = {name: _objects(payload, name) for name in _CONCEPT_LISTS}
        for name in payload:
            if name not in _CONCEPT_LISTS:
                raise InvalidInput(f"{name} is not known; permitted: {', '.join(_CONCEPT_LISTS)}")
        now = self.clock.now()
        vehicles = [_concept_vehicle(raw, now) for raw in given["vehicles"]]
        of_owner = {v.owner_did: v.vehicle_id for v in vehicles if v.owner_did}
        holders = []
        for raw in given["drivers"]:
            holder = credentials.holder_from_concept(
                raw, empty_sites=empty_sites or self.empty_sites
            )
            holders.append(replace(holder, vehicle_id=of_owner.get(holder.did, "")))
        chargers = [credentials.charger_from_concept(raw) for raw in given["chargers"]]

        def work(tx: Tx) -> None:
            for vehicle in vehicles:
                identities.upsert_vehicle(tx, vehicle)
                self.keep_holder(
                    tx, Holder(did=vehicle.vehicle_id, kind="vehicle", name=vehicle.name)
                )
            for holder in holders:
                self.keep_holder(tx, holder)
            for charger in chargers:
                keep_charger(tx, charger)
            counts = {name: len(rows) for name, rows in given.items()}
            _note(tx, now, "concept imported", by, counts)

        await self.store.write(work)
        return {name: len(rows) for name, rows in given.items()}


def keep_charger(tx: Tx, charger: credentials.ConceptCharger) -> None:
    """Store the concept's charger as a station with one EVSE; raise UnknownSite for its site."""
    station = stations.find_station(tx, charger.evse.station_id)
    if station is None:
        station = Station(
            station_id=charger.evse.station_id,
            site_id=charger.site_id,
            name=charger.location,
        )
        stations.register_station(tx, station)
    elif station.site_id != charger.site_id:
        raise Conflict(f"station {station.station_id} belongs to site {station.site_id}")
    known = stations.get_evse(tx, station.station_id, charger.evse.evse_id)
    evse = replace(charger.evse, station_id=station.station_id)
    if known is not None:
        # What the station said of itself counts for more than a file.
        evse = replace(evse, **{**asdict(known), "max_kw": evse.max_kw})
    stations.upsert_evse(tx, evse)


def _concept_vehicle(raw: Mapping[str, object], now: datetime) -> Vehicle:
    owner = raw.get("owner_did", raw.get("driver_did", ""))
    if not isinstance(owner, str):
        raise InvalidInput(f"vehicle.owner_did is {owner!r:.60}; it must be a DID")
    return credentials.vehicle_from_concept(raw, at=now, owner_did=owner)


def _objects(payload: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    raw = payload.get(name, [])
    if not isinstance(raw, list) or not all(isinstance(item, Mapping) for item in raw):
        raise InvalidInput(f"{name} must be a list of objects")
    return raw


def _check_did(text: str) -> None:
    parsed = did.parse(text)
    if parsed.method == "denso" and parsed.kind in ("charger", "csms"):
        raise InvalidInput(f"{text!r:.80} names a {parsed.kind}; a holder is a driver or vehicle")
    if parsed.method in ("key", "jwk"):
        # A key of small order is everybody's: whatever is signed with it proves nothing.
        did.document(parsed)


def _check_station_id(station_id: str) -> None:
    # What goes into the websocket path and into Basic authentication's user part (OCPP-J 3.1.1).
    allowed = all(c.isascii() and (c.isalnum() or c in "*-_=:+|@.") for c in station_id)
    if not station_id or len(station_id) > 48 or not allowed:
        raise InvalidInput(
            f"station_id is {station_id!r:.60}; it must have 1 to 48 of A-Z a-z 0-9 * - _ = : + "
            f"| @ ."
        )


def _note(
    tx: Tx,
    at: datetime,
    what: str,
    by: str,
    detail: Mapping[str, object],
    *,
    station: Station | None = None,
) -> None:
    journal.add_event(
        tx,
        Event(
            at=at,
            kind=what,
            site_id=station.site_id if station else "",
            station_id=station.station_id if station else "",
            detail={"by": by, **detail},
        ),
    )


def _once(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))
