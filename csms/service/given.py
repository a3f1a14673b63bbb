"""What a station should hold: the guards it accepted, and the plans of its open sessions."""

from csms.core.commands import STATION_MAX, TX_DEFAULT, TX_PROFILE, Outcome, Schedule
from csms.core.model import Evse, OcppVersion, Session, Site, Station
from csms.planning.profile import plan_profile_id
from csms.service.comparing import Given
from csms.store import commands, plans, sessions, stations
from csms.store.given import guards_given
from csms.store.statements import Tx

_WHOLE_16 = "ChargePointMaxProfile"


def given_to(tx: Tx, station_id: str) -> tuple[Station, tuple[Given, ...]]:
    """Return a station and what it should hold: its guards and the plans of its open sessions.

    Raises UnknownStation.
    """
    station = stations.get_station(tx, station_id)
    evses = {e.evse_id: e for e in stations.evses_of_station(tx, station.station_id)}
    site = stations.get_site(tx, station.site_id)
    is_16 = station.version is OcppVersion.V16
    found = []
    for guard in guards_given(tx, station.station_id, evses=len(evses)):
        evse = evses.get(guard.evse_id)
        if guard.evse_id and (evse is None or evse.guard_kw is None):
            continue
        found.append(
            Given(
                evse_id=guard.evse_id,
                profile_id=guard.schedule.profile_id,
                purpose=TX_DEFAULT if guard.evse_id else _WHOLE_16 if is_16 else STATION_MAX,
                schedule=guard.schedule,
                phases=max(e.phases for e in evses.values()) if evse is None else evse.phases,
                voltage_v=site.voltage_v,
                taken_at=guard.taken_at,
            )
        )
    for evse in evses.values():
        session = sessions.open_session_on_evse(tx, station.station_id, evse.evse_id)
        if session is None:
            continue
        found.append(_plan_given(tx, evse, session, site, is_16=is_16))
    return station, tuple(found)


def _plan_given(tx: Tx, evse: Evse, session: Session, site: Site, *, is_16: bool) -> Given:
    """Return the plan of a session; whether its newest is in force is open until it is accepted."""
    held = next(iter(plans.list_installed(tx, session.session_id, limit=1)), None)
    taken_at = None
    if held is not None and held.outcome is Outcome.ACCEPTED and held.command_id is not None:
        command = commands.find_command(tx, held.command_id)
        taken_at = held.sent_at if command is None else command.finished_at
    schedule = None if held is None else held.schedule
    phases = evse.phases if schedule is None else _phases(schedule, evse)
    purpose = TX_PROFILE if schedule is None else schedule.purpose
    is_whole = purpose == STATION_MAX
    return Given(
        evse_id=0 if is_whole else evse.evse_id,
        profile_id=plan_profile_id(evse.evse_id) if held is None else held.profile_id,
        purpose=_WHOLE_16 if is_whole and is_16 else purpose,
        schedule=None if schedule is None or schedule.update_every_s is not None else schedule,
        phases=phases,
        voltage_v=site.voltage_v,
        taken_at=taken_at,
        session_id=session.session_id,
        transaction_id=session.transaction_id if purpose == TX_PROFILE else "",
        install_id=0 if held is None else held.install_id,
    )


def _phases(schedule: Schedule, evse: Evse) -> int:
    return next((p.phases for p in schedule.periods if p.phases), evse.phases)
