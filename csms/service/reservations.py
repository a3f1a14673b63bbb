"""Reservations, whoever asked for them: kept from sending on, closed by whatever ends them.

A typed request and a raw ReserveNow end in the same row (K14 of api.md): the id is the one on the
wire. What the station's answer, a session, an expiry, a fault or a cancellation changes is kept in
the transaction that keeps the cause.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from csms.clock import Clock
from csms.core.commands import Command, CommandResult, Outcome, RawCall, integer
from csms.core.errors import Conflict, InvalidInput
from csms.core.messages import RecordReceived, SessionReport, SessionStarted, StatusChanged
from csms.core.model import Authorization, Event, IdToken, OcppVersion, Session, Station
from csms.core.reservation import Reservation, ReservationState
from csms.service.devices import Devices
from csms.store import journal, reservations, stations
from csms.store.database import Store
from csms.store.statements import Tx

_OUT_OF_ORDER = frozenset({"Faulted", "Unavailable"})
_OF_UPDATE = {
    "Expired": ReservationState.EXPIRED,
    "Removed": ReservationState.REMOVED,
    "NoTransaction": ReservationState.EXPIRED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationRequest:
    """What an operator wants kept free; `evse_id` None leaves the choice to the station."""

    station_id: str
    id_token: IdToken
    expires_at: datetime
    evse_id: int | None = None
    connector_type: str = ""
    group: str = ""


@dataclass(slots=True)
class Reservations:
    """Asks stations for reservations and keeps what becomes of them."""

    store: Store
    clock: Clock
    devices: Devices

    async def reserve(
        self, wanted: ReservationRequest, *, by: str
    ) -> tuple[int, CommandResult, Reservation]:
        """Ask the station; return the command's record, its result and the reservation.

        Raises InvalidInput for an expiry that is over, Conflict for what 1.6 cannot say.
        """
        now = self.clock.now()
        if wanted.expires_at <= now:
            raise InvalidInput(f"expires_at is {wanted.expires_at.isoformat()}; it must be ahead")

        def load(tx: Tx) -> tuple[Station, int]:
            return stations.get_station(tx, wanted.station_id), reservations.next_id(tx)

        station, reservation_id = await self.store.read(load)
        command = RawCall(
            station_id=station.station_id,
            action="ReserveNow",
            payload_json=json.dumps(_payload(station, wanted, reservation_id)),
        )
        command_id, result = await self.devices.run(command, asked_by=by)
        kept = await self.store.read(
            lambda tx: reservations.get(tx, reservation_id, station_id=station.station_id)
        )
        return command_id, result, kept

    async def cancel(
        self, reservation_id: int, *, station_id: str, by: str
    ) -> tuple[int, CommandResult, Reservation]:
        """Ask the station to give a reservation up; raise NotFound, or Conflict if it is over."""
        found = await self.store.read(
            lambda tx: reservations.get(tx, reservation_id, station_id=station_id)
        )
        if not found.is_open:
            raise Conflict(f"reservation {reservation_id} is {found.state}")
        command = RawCall(
            station_id=found.station_id,
            action="CancelReservation",
            payload_json=json.dumps({"reservationId": reservation_id}),
        )
        command_id, result = await self.devices.run(command, asked_by=by)
        kept = await self.store.read(
            lambda tx: reservations.get(tx, reservation_id, station_id=found.station_id)
        )
        return command_id, result, kept

    async def give_up(self, report: StatusChanged) -> None:
        """Close the reservations of an EVSE that went out of order, and tell its station so.

        2.0.1 stations give them up by themselves; on 1.6 one would come back with the connector.
        """
        lost = await self.store.write(lambda tx: _given_up(tx, report))
        station = await self.store.read(lambda tx: stations.get_station(tx, report.station_id))
        if not (self.devices.automation and station.automation):
            return
        for found in lost:
            command = RawCall(
                station_id=found.station_id,
                action="CancelReservation",
                payload_json=json.dumps({"reservationId": found.reservation_id}),
            )
            await self.devices.run(command, asked_by="tasco")

    async def expire(self) -> None:
        """Close what nobody used in time; a 1.6 station never says so."""
        now = self.clock.now()
        await self.store.write(lambda tx: reservations.expire(tx, now=now))

    # --- commands, as Devices tells of them

    def asked(self, tx: Tx, command: Command, *, at: datetime) -> None:
        """Keep a reservation that is about to be asked for."""
        if not isinstance(command, RawCall) or command.action != "ReserveNow":
            return
        found = _asked_for(command.station_id, command.payload(), at)
        if found is not None:
            reservations.keep(tx, found)

    def ended(self, tx: Tx, command: Command, result: CommandResult, *, at: datetime) -> None:
        """Keep what the station said to ReserveNow or CancelReservation."""
        if not isinstance(command, RawCall):
            return
        if command.action not in ("ReserveNow", "CancelReservation"):
            return
        payload = command.payload()
        number = integer(payload.get("reservationId", payload.get("id")))
        found = None if number is None else reservations.find(tx, command.station_id, number)
        if found is None or result.outcome is Outcome.SENT:
            return
        reason = result.status or result.error_code or result.why_not_sent
        if command.action == "CancelReservation":
            if result.is_accepted and found.is_open:
                reservations.change(tx, found, ReservationState.CANCELLED, at=at)
        elif result.is_accepted:
            if found.state is ReservationState.PENDING:
                reservations.change(tx, found, ReservationState.ACTIVE, at=at)
        elif result.outcome is not Outcome.NO_ANSWER:
            # Without an answer the station may hold it all the same: it stays pending.
            reservations.change(tx, found, ReservationState.REJECTED, at=at, reason=reason)

    # --- reports

    def updated(self, tx: Tx, report: RecordReceived) -> None:
        """Keep a ReservationStatusUpdate."""
        payload = json.loads(report.payload)
        found = reservations.find(tx, report.station_id, payload["reservationId"])
        word = str(payload["reservationUpdateStatus"])
        state = _OF_UPDATE.get(word)
        if found is not None and found.is_open and state is not None:
            reservations.change(tx, found, state, at=report.received_at, reason=word)


def used(
    tx: Tx, session: Session, report: SessionReport, authorization: Authorization | None
) -> Session:
    """Return the session, having used up the reservation that it began with.

    The holder and members of the reservation's group use it; anybody else's session is flagged,
    and the reservation stays (H08 of the conformance cases). Without an id on the wire the
    holder's own reservation of that EVSE is meant.
    """
    if session.id_token is None or authorization is None:
        return session
    number = report.reservation_id if isinstance(report, SessionStarted) else None
    if number is not None:
        found = reservations.find(tx, session.station_id, number)
    else:
        found = next(
            (
                r
                for r in reservations.open_of_station(tx, session.station_id)
                if r.evse_id in (None, 0, session.evse_id) and _is_holder(r, session.id_token)
            ),
            None,
        )
    if found is None or not found.is_open:
        return session
    is_member = bool(found.group) and found.group == authorization.group
    if _is_holder(found, session.id_token) or is_member:
        reservations.change(
            tx,
            found,
            ReservationState.USED,
            at=report.received_at,
            session_id=session.session_id,
        )
        return session
    journal.add_event(
        tx,
        Event(
            at=report.received_at,
            kind="reservation of somebody else used",
            level="warning",
            site_id=session.site_id,
            station_id=session.station_id,
            session_id=session.session_id,
            detail={"reservation_id": found.reservation_id},
        ),
    )
    return replace(session, flags=(*session.flags, "reservation_of_other"))


def is_out_of_order(report: StatusChanged) -> bool:
    """Return whether a connector can serve nobody any more."""
    return report.status in _OUT_OF_ORDER and report.evse_id > 0


def _given_up(tx: Tx, report: StatusChanged) -> list[Reservation]:
    lost = [
        r
        for r in reservations.open_of_station(tx, report.station_id)
        if r.evse_id == report.evse_id
    ]
    for found in lost:
        reservations.change(
            tx, found, ReservationState.REMOVED, at=report.received_at, reason=report.status
        )
        journal.add_event(
            tx,
            Event(
                at=report.received_at,
                kind="reservation lost",
                level="warning",
                site_id=stations.site_id_of_station(tx, report.station_id),
                station_id=report.station_id,
                detail={"reservation_id": found.reservation_id, "status": report.status},
            ),
        )
    return lost


def _is_holder(found: Reservation, token: IdToken) -> bool:
    return found.id_token.value.casefold() == token.value.casefold()


def _payload(station: Station, wanted: ReservationRequest, number: int) -> dict[str, Any]:
    until = wanted.expires_at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    token = wanted.id_token
    if station.version is OcppVersion.V16:
        if wanted.connector_type:
            raise Conflict("OCPP 1.6 cannot reserve a type of connector; name an EVSE")
        payload: dict[str, Any] = {
            "connectorId": wanted.evse_id or 0,
            "expiryDate": until,
            "idTag": token.value,
            "reservationId": number,
        }
        return payload | ({"parentIdTag": wanted.group} if wanted.group else {})
    payload = {
        "id": number,
        "expiryDateTime": until,
        "idToken": {"idToken": token.value, "type": token.kind or "ISO14443"},
    }
    if wanted.evse_id is not None:
        payload["evseId"] = wanted.evse_id
    if wanted.connector_type:
        payload["connectorType"] = wanted.connector_type
    if wanted.group:
        payload["groupIdToken"] = {"idToken": wanted.group, "type": "Central"}
    return payload


def _asked_for(station_id: str, payload: Mapping[str, Any], at: datetime) -> Reservation | None:
    """Return the reservation that a ReserveNow of either version asks for, None if unreadable."""
    number = integer(payload.get("reservationId", payload.get("id")))
    evse_id = payload.get("connectorId", payload.get("evseId"))
    token, group = payload.get("idToken", {}), payload.get("groupIdToken", {})
    try:
        expiry = payload.get("expiryDate", payload.get("expiryDateTime"))
        until = datetime.fromisoformat(str(expiry))
    except ValueError:
        return None
    if number is None or not isinstance(token, dict) or not isinstance(group, dict):
        return None
    return Reservation(
        station_id=station_id,
        reservation_id=number,
        evse_id=integer(evse_id),
        connector_type=str(payload.get("connectorType", "")),
        id_token=IdToken(
            value=str(payload.get("idTag", token.get("idToken", ""))),
            kind=str(token.get("type", "")),
        ),
        group=str(payload.get("parentIdTag", group.get("idToken", ""))),
        expires_at=until if until.tzinfo else until.replace(tzinfo=UTC),
        asked_at=at,
        changed_at=at,
    )
