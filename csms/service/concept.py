"""The first concept's session: one car, one trip, one charger, a plan, an answer.

Where the charger is linked the charge is started as well, with a one-time token that stands for
the driver; from the next plan on the car is one of many. Where it is not, the session is kept as
declared, so that it is planned, completed and reported like any other.
"""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from csms.clock import Clock
from csms.core.commands import Command, CommandResult, StartCharging, StopCharging
from csms.core.errors import Conflict, IdentityError, UnknownSession
from csms.core.model import (
    AccessPolicy,
    AuthorizationStatus,
    Event,
    Evse,
    Holder,
    IdToken,
    LinkState,
    OcppVersion,
    Session,
    SessionState,
    Site,
    Station,
    TokenRecord,
    Trip,
    Vehicle,
)
from csms.core.plan import Plan, PlanningCase
from csms.identity import alias, credentials, did
from csms.identity.policy import decide
from csms.service import concept_input, concept_plan
from csms.service import offers as offer_book
from csms.service.authorization import new_session_token
from csms.service.concept_input import Given
from csms.service.concept_plan import Planned, Request
from csms.service.enrolment import Enrolment, keep_charger
from csms.service.ids import new_id
from csms.service.reports import PriceList
from csms.store import identities, journal, series, sessions, stations, trips
from csms.store import wiring as wires
from csms.store.database import Store
from csms.store.statements import Tx

REQUESTED = "session requested"
COMPLETED = "session completed"
DECLARED = "declared"
"""Flag of a session at a charger that is not linked: nobody measures it."""

FLAT_EUR_PER_KWH = 0.30
_TOKEN_VALID = timedelta(minutes=10)
_NOTHING_KWH = 1e-9


class Commands(Protocol):
    """Sends commands to stations and keeps their outcomes."""

    async def run(self, command: Command, *, asked_by: str) -> tuple[int, CommandResult]:
        """Send `command`; return its record's id and what came of it."""
        ...


class Plans(Protocol):
    """Plans sites."""

    def touch(self, site_id: str, why: str) -> None:
        """Make `site_id` due for a new plan."""
        ...

    async def preview(self, site_id: str) -> tuple[PlanningCase, Plan]:
        """Return the case and the plan as they would be now; nothing is sent."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A session of the concept: the stay it became (None: none yet), and what was asked for."""

    session_id: str
    session: Session | None
    asked: Mapping[str, Any] | None
    is_completed: bool = False

    @property
    def status(self) -> str:
        """Where the session is: "completed", "active", "waiting" for its car, "not_started"."""
        if self.session is not None:
            return "active" if self.session.state is SessionState.OPEN else "completed"
        if self.is_completed:
            return "completed"
        return "waiting" if self.asked and self.asked.get("is_started") else "not_started"


class Concept:
    """Starts, shows and completes sessions as the first concept did."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        devices: Commands,
        replanner: Plans,
        enrolment: Enrolment,
    ) -> None:
        self.store = store
        self.clock = clock
        self.devices = devices
        self.replanner = replanner
        self.enrolment = enrolment

    async def start(self, payload: Mapping[str, object], *, by: str) -> dict[str, object]:
        """Plan a session for `payload` and start it where the charger is linked.

        Raises InvalidInput or DidSyntaxError for what cannot be read, NotFound for a DID nobody
        enrolled, IdentityError for a driver who may not charge there, Conflict for a charger or a
        driver that is taken.
        """
        now = self.clock.now()
        given = concept_input.read(payload)
        session_id, trip_id = new_id("s", now), new_id("t", now)
        request = await self.store.write(lambda tx: self._request(tx, given, trip_id, now))
        site_id = request.site.site_id
        case, _ = await self.replanner.preview(site_id)
        concept = concept_plan.alone(request, now=now)

        def plan() -> tuple[Planned, Any]:
            planned = concept_plan.beside_others(request, concept, case, session_id=session_id)
            return planned, concept_plan.offers(request, planned)

        planned, possible = await asyncio.to_thread(plan)
        is_linked = request.station.link_state is LinkState.ONLINE
        is_needed = concept.extra_energy_needed_kwh > _NOTHING_KWH
        token, said = "", "the charger is not linked; kept as declared"
        if not is_needed:
            said = "the battery already holds what the trip needs"
        elif is_linked:
            token, said = await self._start_remotely(request, planned, by=by)
        plan_view = concept_plan.view(planned)
        detail: dict[str, object] = {
            "by": by,
            "driver_did": request.holder.did,
            "vehicle_did": request.vehicle.vehicle_id,
            "charger_did": request.charger_did,
            "trip_id": trip_id,
            "tariff_eur_per_kwh": request.tariff_eur_per_kwh,
            "plan": plan_view,
            "token": token,
            "is_started": bool(token),
        }

        def work(tx: Tx) -> list[dict[str, object]]:
            journal.add_event(
                tx,
                Event(
                    at=now,
                    kind=REQUESTED,
                    site_id=site_id,
                    session_id=session_id,
                    station_id=request.station.station_id,
                    detail=detail,
                ),
            )
            if not is_linked:
                declared = self._declared(request, planned, session_id=session_id, now=now)
                sessions.open_session(tx, declared)
            trips.link_trip(tx, trip_id, session_id)
            made = offer_book.make(tx, possible, now=now)
            return [_offer_view(o) for o in made]

        offered = await self.store.write(work)
        self.replanner.touch(site_id, "session requested")
        return {
            "session_id": session_id,
            "plan": {**plan_view, "incentive_offers": offered},
            "message": _message(planned, said),
        }

    def _request(self, tx: Tx, given: Given, trip_id: str, now: datetime) -> Request:
        holder = self._holder(tx, given)
        vehicle = _vehicle(tx, given, now)
        tariff = None
        if given.charger is not None and "max_power_kw" in given.charger:
            charger = credentials.charger_from_concept(given.charger)
            keep_charger(tx, charger)
            tariff = charger.eur_per_kwh
        station = stations.get_station(tx, concept_input.station_id_of(given.charger_did))
        site = stations.get_site(tx, station.site_id)
        evse = _free_evse(tx, station)
        _check_access(tx, holder, site, evse, now)
        trip = Trip(
            trip_id=trip_id,
            holder_did=holder.did,
            vehicle_id=vehicle.vehicle_id,
            departs_at=given.departure(site.time_zone),
            distance_km=given.distance_km,
            energy_kwh=given.energy_kwh,
        )
        trips.upsert_trip(tx, trip)
        if tariff is None:
            known = PriceList(series.prices(tx, site.tariff_id, now, now + timedelta(minutes=1)))
            tariff = known.at(now) if known else FLAT_EUR_PER_KWH
        return Request(
            holder=holder,
            vehicle=vehicle,
            site=site,
            station=station,
            evse=evse,
            trip=trip,
            charger_did=given.charger_did,
            tariff_eur_per_kwh=tariff,
            wiring=wires.wiring_of(tx, site.site_id, also=[evse]),
        )

    def _holder(self, tx: Tx, given: Given) -> Holder:
        """Return the driver: enrolled if new; one that is known keeps its rights as enrolled."""
        if given.driver is None:
            return identities.get_holder(tx, given.driver_did)
        sent = credentials.holder_from_concept(given.driver, empty_sites=self.enrolment.empty_sites)
        known = identities.holder_of_did(tx, sent.did)
        if known is not None and "preferences" in given.driver:
            known = replace(known, carbon_conscious=sent.carbon_conscious)
        self.enrolment.keep_holder(tx, known or sent)
        return known or sent

    async def _start_remotely(
        self, request: Request, planned: Planned, *, by: str
    ) -> tuple[str, str]:
        """Ask the charger to start; return the token to know the stay by ("": not started)."""
        now = self.clock.now()
        token = new_session_token()
        place = {"station_id": request.station.station_id, "evse_id": request.evse.evse_id}
        record = TokenRecord(
            value=token,
            kind=str(alias.TokenKind.SESSION),
            did=request.holder.did,
            valid_until=now + _TOKEN_VALID,
            station_id=request.station.station_id,
            evse_id=request.evse.evse_id,
        )
        await self.store.write(lambda tx: identities.upsert_token(tx, record))
        command = StartCharging(
            station_id=request.station.station_id,
            evse_id=request.evse.evse_id,
            id_token=IdToken(value=token, kind="Central"),
            remote_start_id=secrets.randbelow(2**31 - 1) + 1,
            schedule=concept_plan.first_schedule(request, planned, now=now),
        )
        _, result = await self.devices.run(command, asked_by=by)
        if result.is_accepted:
            return token, "started at {station_id}, EVSE {evse_id}".format(**place)
        words = result.status or result.error_code or result.why_not_sent
        return "", f"not started: {result.outcome} {words}".strip()

    def _declared(
        self, request: Request, planned: Planned, *, session_id: str, now: datetime
    ) -> Session:
        need_kwh = planned.concept.extra_energy_needed_kwh / request.vehicle.efficiency
        return Session(
            session_id=session_id,
            number=0,
            site_id=request.site.site_id,
            station_id=request.station.station_id,
            evse_id=request.evse.evse_id,
            version=request.station.version or OcppVersion.V16,
            transaction_id=session_id,
            id_token=IdToken(value=self.enrolment.keys.fingerprint(request.holder.did)),
            holder_did=request.holder.did,
            status=AuthorizationStatus.ACCEPTED,
            reason="accepted",
            priority=request.holder.priority,
            started_at=now,
            received_at=now,
            soc=request.vehicle.soc,
            vehicle_id=request.vehicle.vehicle_id,
            trip_id=request.trip.trip_id,
            departs_at=request.trip.departs_at,
            need_wh=need_kwh * 1000.0,
            preferred_wh=need_kwh * 1000.0,
            need_source="trip",
            flags=(DECLARED,),
        )

    # --- afterwards ----------------------------------------------------------------------------

    async def find(self, session_id: str) -> Found:
        """Return a session by the id that `start` gave, or by a stay's own; UnknownSession."""
        return await self.store.read(lambda tx: find(tx, session_id))

    async def complete(
        self, session_id: str, *, energy_kwh: float | None, by: str
    ) -> tuple[Found, str]:
        """Complete a session and return it with a message.

        A declared one ends now, with `energy_kwh` at the meter or what its plan would have given
        by now; a measured one is asked of its station, whose word on the energy counts.
        """
        found = await self.find(session_id)
        session = found.session
        if session is not None and DECLARED not in session.flags:
            return await self._stop(found, session, by=by)
        if found.status == "completed":
            return found, "completed before"
        now = self.clock.now()

        def work(tx: Tx) -> str:
            again = find(tx, session_id)
            site_id = ""
            if again.session is not None and again.session.state is SessionState.OPEN:
                site_id = again.session.site_id
                _end(tx, again, now=now, energy_kwh=energy_kwh)
            journal.add_event(
                tx,
                Event(
                    at=now,
                    kind=COMPLETED,
                    site_id=site_id,
                    session_id=session_id,
                    detail={"by": by},
                ),
            )
            return site_id

        self.replanner.touch(await self.store.write(work), "session completed")
        return await self.find(session_id), "completed"

    async def _stop(self, found: Found, session: Session, *, by: str) -> tuple[Found, str]:
        if session.state is SessionState.ENDED:
            return found, "completed before"
        command = StopCharging(station_id=session.station_id, transaction_id=session.transaction_id)
        _, result = await self.devices.run(command, asked_by=by)
        words = result.status or result.error_code or result.why_not_sent
        if not result.is_accepted:
            raise Conflict(f"the charger did not stop: {result.outcome} {words}".strip())
        return await self.find(found.session_id), "the charger was asked to stop and accepted"


def find(tx: Tx, session_id: str) -> Found:
    """Return a session by the id that was given at its start, or by a stay's own id."""
    asked: Mapping[str, Any] | None = None
    is_completed = False
    for stored in journal.list_events(tx, session_id=session_id, limit=100).items:
        if stored.event.kind == REQUESTED:
            asked = stored.event.detail
        is_completed = is_completed or stored.event.kind == COMPLETED
    try:
        session: Session | None = sessions.get(tx, session_id)
    except UnknownSession:
        if asked is None:
            raise
        session = _by_token(tx, str(asked.get("token", "")))
    return Found(session_id=session_id, session=session, asked=asked, is_completed=is_completed)


def _by_token(tx: Tx, token: str) -> Session | None:
    page = sessions.list_transactions(tx, id_token=token, limit=1) if token else None
    return page.items[0] if page and page.items else None


def _end(tx: Tx, found: Found, *, now: datetime, energy_kwh: float | None) -> None:
    session = found.session
    assert session is not None
    vehicle = identities.find_vehicle(tx, session.vehicle_id)
    efficiency = vehicle.efficiency if vehicle else 1.0
    if energy_kwh is None:
        plan = dict(found.asked or {}).get("plan", {})
        hours = (now - session.started_at) / timedelta(hours=1)
        reachable = float(plan.get("effective_charge_power_kw", 0.0)) * hours
        energy_kwh = min(reachable, float(plan.get("extra_energy_needed_kwh", 0.0))) / efficiency
    ended = replace(
        session,
        state=SessionState.ENDED,
        ended_at=now,
        stop_reason="completed",
        energy_wh=energy_kwh * 1000.0,
        is_estimated=True,
        power_w=0.0,
    )
    sessions.save(tx, ended)
    if vehicle is not None and vehicle.soc is not None:
        soc = min(vehicle.soc + energy_kwh * efficiency / vehicle.battery_kwh, 1.0)
        identities.set_soc(tx, vehicle.vehicle_id, soc, at=now, source="estimated")


def _vehicle(tx: Tx, given: Given, now: datetime) -> Vehicle:
    if given.vehicle is None:
        return identities.get_vehicle(tx, given.vehicle_did)
    known = identities.find_vehicle(tx, given.vehicle_did)
    sent = credentials.vehicle_from_concept(
        given.vehicle, at=now, owner_did=known.owner_did if known else given.driver_did
    )
    identities.upsert_vehicle(tx, sent)
    return sent


def _free_evse(tx: Tx, station: Station) -> Evse:
    evses = stations.evses_of_station(tx, station.station_id)
    if not evses:
        raise Conflict(f"charger {station.station_id} has no EVSE yet; register one with its power")
    for evse in evses:
        if sessions.open_session_on_evse(tx, station.station_id, evse.evse_id) is None:
            return evse
    raise Conflict(f"charger {station.station_id} is taken")


def _check_access(tx: Tx, holder: Holder, site: Site, evse: Evse, now: datetime) -> None:
    decision = decide(
        IdToken(value=holder.did, kind="DID"),
        TokenRecord(value=did.fold(holder.did), kind=str(alias.TokenKind.DID), did=holder.did),
        holder,
        station_id=evse.station_id,
        site=site,
        evse_id=evse.evse_id,
        open_sessions=sum(
            s.is_authorized for s in sessions.open_sessions_of_holder(tx, holder.did)
        ),
        policy=AccessPolicy(),
        now=now,
        is_start=True,
    )
    if decision.status is AuthorizationStatus.CONCURRENT_TX:
        raise Conflict(f"driver {holder.did} has a session already")
    if not decision.is_accepted:
        raise IdentityError(
            f"driver {holder.did} may not charge at site {site.site_id}: {decision.reason}"
        )


def _offer_view(offer: Any) -> dict[str, object]:
    return {
        "offer_id": offer.offer_id,
        "kind": offer.kind,
        "discount_eur": offer.discount_eur,
        "points": offer.points,
        "starts_at": offer.starts_at.isoformat().replace("+00:00", "Z"),
        "until": offer.until.isoformat().replace("+00:00", "Z"),
        "reason": offer.reason,
    }


def _message(planned: Planned, said: str) -> str:
    concept = planned.concept
    if concept.feasibility_warning:
        return f"{concept.plan_type} plan, not feasible: {concept.feasibility_warning}; {said}"
    if concept.extra_energy_needed_kwh <= _NOTHING_KWH:
        return f"{concept.plan_type} plan: no charging needed; {said}"
    return (
        f"{concept.plan_type} plan: {concept.extra_energy_needed_kwh:.2f} kWh by "
        f"{planned.case.sessions[-1].departs_at:%Y-%m-%dT%H:%MZ}; {said}"
    )
