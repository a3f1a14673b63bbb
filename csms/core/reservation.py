"""Reservations: an EVSE kept for one id token until an hour."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from csms.core.model import IdToken


class ReservationState(StrEnum):
    """Where a reservation is in its life."""

    PENDING = "PENDING"
    """Asked of the station, no answer yet."""
    ACTIVE = "ACTIVE"
    REJECTED = "REJECTED"
    """The station did not take it; its own word is the reservation's `reason`."""
    USED = "USED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"
    REMOVED = "REMOVED"
    """The station gave it up, because of a fault for instance."""


OPEN = frozenset({ReservationState.PENDING, ReservationState.ACTIVE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What a station was asked to keep free. `reservation_id` is the id on the wire.

    `evse_id` None means any EVSE of the station, `connector_type` any with such a connector.
    `group` is the group token whose members may use it as well, "" for none.
    """

    station_id: str
    reservation_id: int
    evse_id: int | None = None
    connector_type: str = ""
    id_token: IdToken
    group: str = ""
    expires_at: datetime
    state: ReservationState = ReservationState.PENDING
    reason: str = ""
    asked_at: datetime
    changed_at: datetime
    session_id: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it may still be used."""
        return self.state in OPEN
