"""What the routes work with: the services of this process, as `create_app` was given them."""

from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends, Query, Request

from csms.api.auth import Caller, operator, viewer
from csms.clock import Clock
from csms.core.commands import Command, CommandResult
from csms.core.plan import Plan, PlanningCase
from csms.service.caps import CapDesk
from csms.service.care import Care
from csms.service.cases import Snapshot
from csms.service.certificates import Certificates
from csms.service.circuits import CircuitDesk
from csms.service.claims import ClaimDesk
from csms.service.concept import Concept
from csms.service.dialects import DialectBook
from csms.service.dynamic import Dynamics
from csms.service.enrolment import Enrolment
from csms.service.frames import FrameDesk
from csms.service.local_lists import LocalLists
from csms.service.metering import MeterDesk
from csms.service.notices import Notices
from csms.service.offers import OfferBook
from csms.service.passwords import Passwords
from csms.service.read_back import ReadBack
from csms.service.reports import Reports
from csms.service.reservations import Reservations
from csms.service.terms import TermsDesk
from csms.service.waiting import WaitingRoom
from csms.store.database import Store
from csms.telemetry import Metrics

MAX_LIMIT = 200


class Devices(Protocol):
    """Sends commands to stations and keeps their outcomes."""

    async def run(self, command: Command, *, asked_by: str) -> tuple[int, CommandResult]:
        """Send `command`; return its record's id and what came of it."""
        ...


class Replanner(Protocol):
    """Plans sites."""

    def touch(self, site_id: str, why: str) -> None:
        """Make `site_id` due for a new plan."""
        ...

    async def case(self, site_id: str) -> tuple[Snapshot, PlanningCase]:
        """Return a site as it is now and the planner's input for it."""
        ...

    async def preview(self, site_id: str) -> tuple[PlanningCase, Plan]:
        """Return the case and the plan as they would be now; nothing is sent."""
        ...


class Forecasting(Protocol):
    """Fits and shows demand forecasts, as JSON-ready objects."""

    async def train(self, site_id: str | None) -> dict[str, object]:
        """Fit one site's forecast, or all; return how they score."""
        ...

    async def latest(self, site_id: str, hours: float) -> dict[str, object] | None:
        """Return the forecast of the next `hours`, None while there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The services behind the API."""

    store: Store
    clock: Clock
    metrics: Metrics
    devices: Devices
    waiting: WaitingRoom
    reservations: Reservations
    local_lists: LocalLists
    terms: TermsDesk
    frames: FrameDesk
    dynamics: Dynamics
    read_back: ReadBack
    care: Care
    replanner: Replanner
    forecasting: Forecasting
    notices: Notices
    passwords: Passwords
    certificates: Certificates
    enrolment: Enrolment
    claims: ClaimDesk
    offers: OfferBook
    concept: Concept
    reports: Reports
    dialects: DialectBook
    circuits: CircuitDesk
    caps: CapDesk
    meters: MeterDesk
    demo: bool
    heartbeat_s: float


def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


P = Annotated[Parts, Depends(_parts)]
Viewer = Annotated[Caller, Depends(viewer)]
Operator = Annotated[Caller, Depends(operator)]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]
Cursor = Annotated[str, Query(max_length=200)]
