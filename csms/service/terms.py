"""The terms of sessions on OCPP 2.1: limits, tariffs, costs, priority, energy transfer modes.

A limit is said once, in the first answer, and only as far as the station supports it. What a
station calculates is calculated once more from the tariff it was given; a difference is flagged.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from csms.clock import Clock
from csms.core import tariff as tariffs
from csms.core.commands import Command, CommandResult, RawCall, ReadAbilities
from csms.core.messages import (
    NeedReply,
    NeedReported,
    Noted,
    PriorityChanged,
    RecordReceived,
    SessionReply,
    SessionReport,
    TokenPresented,
    TokenReply,
)
from csms.core.model import Event, OcppVersion, Session, Site
from csms.core.tariff import CostVerdict, Tariff
from csms.core.terms import Abilities, Particulars, Terms, TransactionLimit
from csms.identity.credentials import paying
from csms.service.costs import Costs
from csms.service.devices import Devices
from csms.store import identities, journal, series, sessions, stations
from csms.store import terms as stored
from csms.store.database import Store
from csms.store.statements import Tx

TARIFF_AHEAD = timedelta(hours=24)
_LOOKED_BACK = 50
_UNSETTLED = frozenset({"Failed", "Rejected"})
_TOO_MUCH = frozenset({"TooManyElements", "ConditionNotSupported"})
_AC_MODES = ("AC_single_phase", "AC_two_phase", "AC_three_phase")
_DC_MODES = ("DC",)


@dataclass(slots=True)
class TermsDesk:
    """Keeps the terms of sessions; answers what depends on them."""

    store: Store
    clock: Clock
    devices: Devices
    touch: Callable[[str, str], None]

    async def settle(self, station_id: str) -> None:
        """Ask a 2.1 station that came up what it can do beyond 2.0.1."""
        station = await self.store.read(lambda tx: stations.find_station(tx, station_id))
        if station is None or station.version is not OcppVersion.V21:
            return
        if self.devices.automation and station.automation:
            await self.devices.run(ReadAbilities(station_id=station_id), asked_by="tasco")

    # --- reports

    async def presented(
        self, report: TokenPresented, decide: Callable[[TokenPresented], Awaitable[TokenReply]]
    ) -> TokenReply:
        """Return the decision on a token, on 2.1 with what charging costs and which way it goes."""
        reply = await decide(report)
        if report.version is not OcppVersion.V21 or not reply.authorization.is_accepted:
            return reply

        def work(tx: Tx) -> TokenReply:
            able = stored.abilities(tx, report.station_id)
            told = reply
            if able.tariffs:
                found = shown_tariff(tx, report.station_id, able, now=report.received_at)
                stored.keep_tariff(tx, found, at=report.received_at)
                told = replace(told, tariff=found)
            return replace(told, allowed_modes=site_modes(tx, report.station_id))

        return await self.store.write(work)

    async def priority_changed(self, report: PriorityChanged) -> Noted:
        """Keep that a driver charges at full power, or no longer, and plan the others again."""

        def work(tx: Tx) -> Session | None:
            record = RecordReceived(
                station_id=report.station_id,
                link_id=report.link_id,
                received_at=report.received_at,
                version=OcppVersion.V21,
                action="NotifyPriorityCharging",
                payload=report.payload,
            )
            journal.add_record(tx, record)
            session = sessions.by_transaction(tx, report.station_id, report.transaction_id)
            if session is not None:
                known = _terms(tx, session)
                stored.save(tx, replace(known, is_prioritised=report.is_on))
            return session

        session = await self.store.write(work)
        if session is not None:
            word = "on" if report.is_on else "off"
            self.touch(session.site_id, f"priority charging {word}")
        return Noted()

    async def need_reported(
        self, report: NeedReported, answer: Callable[[NeedReported], Awaitable[NeedReply]]
    ) -> NeedReply:
        """Answer a car's wish; a way of charging that is not allowed here is refused."""
        refusal = await self.store.read(lambda tx: self._need_refusal(tx, report))
        return NeedReply(status=refusal) if refusal else await answer(report)

    def _need_refusal(self, tx: Tx, report: NeedReported) -> str:
        if not _is_allowed(tx, report):
            return "Rejected"
        station = stations.get_station(tx, report.station_id)
        gets_none = not (
            self.devices.automation and station.automation and station.limits.supports_profiles
        )
        # Told so, the car need not wait for a profile: it charges within the guard (2.1 K17).
        is_newer = station.version is OcppVersion.V21
        return "NoChargingProfile" if gets_none and is_newer else ""

    def settled(self, tx: Tx, report: RecordReceived) -> None:
        """Keep how a transaction was paid, and raise an alarm for a payment that failed, once."""
        payload = json.loads(report.payload)
        page = journal.list_records(
            tx, station_id=report.station_id, action=report.action, limit=_LOOKED_BACK
        )
        is_repeat = [r.payload for r in page.items].count(report.payload) > 1
        session = sessions.by_transaction(
            tx, report.station_id, str(payload.get("transactionId", ""))
        )
        if session is not None:
            stored.save(tx, replace(_terms(tx, session), settlement=payload))
        if payload["status"] in _UNSETTLED and not is_repeat:
            _alarm(
                tx,
                report,
                "settlement failed",
                {"status": payload["status"], "amount": payload["settlementAmount"]},
            )

    def grid_alarm(self, tx: Tx, report: RecordReceived) -> None:
        """Raise an alarm for a grid event that the station reports."""
        payload = json.loads(report.payload)
        if not payload.get("alarmEnded", False):
            detail = {n: payload[n] for n in ("controlType", "gridEventFault") if n in payload}
            _alarm(tx, report, "grid alarm", detail)

    # --- what operators ask for

    async def give_tariff(
        self, station_id: str, *, evse_id: int, by: str
    ) -> tuple[int, CommandResult, Tariff]:
        """Give a station its site's prices of the next day as its default tariff.

        Return the last command's record and result, with the tariff that it carried: where one is
        too long or too clever for the station, it is sent again as one price.
        """
        now = self.clock.now()

        def load(tx: Tx) -> Tariff:
            station = stations.get_station(tx, station_id)
            return shown_tariff(tx, station_id, stored.abilities(tx, station.station_id), now=now)

        wanted: Tariff | None = await self.store.read(load)
        while True:
            assert wanted is not None
            command = RawCall(
                station_id=station_id,
                action="SetDefaultTariff",
                payload_json=json.dumps({"evseId": evse_id, "tariff": wanted}),
                version=OcppVersion.V21,
            )
            command_id, result = await self.devices.run(command, asked_by=by)
            less = tariffs.simpler(wanted) if result.status in _TOO_MUCH else None
            if less is None:
                return command_id, result, wanted
            wanted = less

    async def set_start_limit(self, id_token: str, limit: TransactionLimit | None) -> None:
        """Let a limit hold for the next transactions begun with a token; None takes it away."""
        now = self.clock.now()
        await self.store.write(lambda tx: stored.set_start_limit(tx, id_token, limit, at=now))

    # --- commands, as Devices tells of them

    def asked(self, tx: Tx, command: Command, *, at: datetime) -> None:
        """Keep a tariff that is about to be given, so that its costs can be told later."""
        if not isinstance(command, RawCall):
            return
        if command.action in ("SetDefaultTariff", "ChangeTransactionTariff"):
            given = _object(command.payload().get("tariff"))
            if isinstance(given.get("tariffId"), str):
                stored.keep_tariff(tx, given, at=at)

    def ended(self, tx: Tx, command: Command, result: CommandResult, *, at: datetime) -> None:
        """Keep what a station agreed to for a session."""
        if result.abilities is not None:
            stored.keep_abilities(tx, command.station_id, result.abilities, at=at)
        if not isinstance(command, RawCall) or not result.is_accepted:
            return
        if command.action not in ("NotifyAllowedEnergyTransfer", "ChangeTransactionTariff"):
            return
        payload = command.payload()
        session = sessions.by_transaction(tx, command.station_id, str(payload["transactionId"]))
        if session is None:
            return
        known = _terms(tx, session)
        if command.action == "NotifyAllowedEnergyTransfer":
            known = replace(known, allowed_modes=tuple(payload["allowedEnergyTransfer"]))
        else:
            known = replace(known, tariff_id=payload["tariff"]["tariffId"])
        stored.save(tx, known)


def kept(
    tx: Tx, session: Session, report: SessionReport, reply: SessionReply, costs: Costs
) -> tuple[Session, SessionReply]:
    """Keep the terms that a 2.1 message speaks of; return the session and the answer with ours.

    Costs little where there is nothing to say: a message without particulars, in a session that
    had its first answer, reads one row and writes none.
    """
    known = before = _terms(tx, session)
    if report.particulars is not None:
        known = _with_particulars(known, report.particulars)
    if report.particulars is not None and report.particulars.costs is not None:
        known, session = _with_costs(tx, known, session, report)
    if known.limit_sent_at is None and session.is_authorized and session.ended_at is None:
        limit = _own_limit(tx, session)
        supported = stored.abilities(tx, session.station_id).supported_limits
        known = replace(
            known,
            limit=limit,
            limit_sent=None if limit is None else limit.within(supported),
            limit_sent_at=report.received_at,
            limit_seq_no=report.seq_no,
        )
    if known != before:
        stored.save(tx, known)
    return session, _answered(tx, known, session, report, reply, costs)


def _answered(
    tx: Tx,
    known: Terms,
    session: Session,
    report: SessionReport,
    reply: SessionReply,
    costs: Costs,
) -> SessionReply:
    """Return the answer with the limit, in the first one and its repeats, and the running cost."""
    if known.limit_sent is not None and known.limit_seq_no == report.seq_no:
        reply = replace(reply, limit=known.limit_sent)
    if reply.total_cost is None:
        reply = replace(reply, total_cost=_running_cost(tx, known, session, costs))
    return reply


def repeated(
    tx: Tx, session: Session, report: SessionReport, reply: SessionReply, costs: Costs
) -> SessionReply:
    """Return the answer to a message that came before: with what the first answer said."""
    known = _terms(tx, session)
    return _answered(tx, known, session, report, reply, costs)


def _running_cost(tx: Tx, known: Terms, session: Session, costs: Costs) -> float | None:
    """Return what a session with a cost limit costs so far, None where the centre tells no cost.

    A station that charges by a tariff counts for itself: two sums would be one too many.
    """
    if known.limit is None or known.limit.cost is None or known.tariff_id:
        return None
    found = costs.of(tx, session)
    if found is None:
        found = session.energy_kwh * stations.get_site(tx, session.site_id).revenue_per_kwh
    return round(found, 2)


def _terms(tx: Tx, session: Session) -> Terms:
    return stored.find(tx, session.session_id) or Terms(session_id=session.session_id)


def _with_particulars(known: Terms, told: Particulars) -> Terms:
    return replace(
        known,
        station_limit=told.limit or known.station_limit,
        operation_mode=told.operation_mode or known.operation_mode,
        tariff_id=told.tariff_id or known.tariff_id,
    )


def _with_costs(
    tx: Tx, known: Terms, session: Session, report: SessionReport
) -> tuple[Terms, Session]:
    """Calculate a station's costs once more; flag the session where they differ."""
    assert report.particulars is not None
    details = report.particulars.costs or {}
    used = [p["tariffId"] for p in details.get("chargingPeriods", ()) if "tariffId" in p]
    site = stations.get_site(tx, session.site_id)
    found, own = tariffs.verdict(
        details,
        stored.tariffs(tx, used),
        time_zone=site.time_zone,
        energy_wh=session.energy_wh,
    )
    known = replace(
        known, costs=details, costs_verdict=str(found), costs_own="" if own is None else str(own)
    )
    if found in (CostVerdict.EQUAL, CostVerdict.NOT_CALCULATED):
        return known, session
    journal.add_event(
        tx,
        Event(
            at=report.received_at,
            kind="costs differ",
            level="warning",
            site_id=session.site_id,
            station_id=session.station_id,
            session_id=session.session_id,
            detail={"verdict": str(found), "own": known.costs_own},
        ),
    )
    if "costs_differ" in session.flags:
        return known, session
    session = replace(session, flags=(*session.flags, "costs_differ"))
    sessions.save(tx, session)
    return known, session


def _own_limit(tx: Tx, session: Session) -> TransactionLimit | None:
    """Return what we limit a transaction to: what its token may and what its holder has left."""
    token = "" if session.id_token is None else session.id_token.value
    limit = stored.start_limit(tx, token) or TransactionLimit()
    left_wh = [] if limit.energy_wh is None else [limit.energy_wh]
    claims = identities.credentials_of(tx, session.holder_did) if session.holder_did else []
    if any(claim.allowance_kwh is not None for claim in claims):
        site = stations.get_site(tx, session.site_id)
        claim = paying(claims, site=site, trusted_issuers=(), now=session.started_at)
        if claim is not None and claim.allowance_kwh is not None and not site.free_charging:
            left_wh.append(max(claim.allowance_kwh - claim.used_kwh, 0.0) * 1000.0)
    limit = replace(limit, energy_wh=min(left_wh, default=None))
    return None if limit == TransactionLimit() else limit


# --- tariffs and modes ---------------------------------------------------------------------------


def shown_tariff(tx: Tx, station_id: str, able: Abilities, *, now: datetime) -> Tariff:
    """Return what charging costs at a station over the next day, as simple as it needs."""
    site = stations.get_site(tx, stations.get_station(tx, station_id).site_id)
    found: Tariff = site_tariff(tx, site, now=now)
    most = able.max_tariff_elements or tariffs.MAX_ELEMENTS
    if tariffs.elements(found) > most:
        found = tariffs.simpler(found) or found
    return found


def site_tariff(tx: Tx, site: Site, *, now: datetime) -> Tariff:
    """Return a site's prices of the next day as one tariff, one price where it has none."""
    prices = series.prices(tx, site.tariff_id, now, now + TARIFF_AHEAD) if site.tariff_id else []
    return tariffs.by_time(prices, time_zone=site.time_zone, otherwise=site.revenue_per_kwh)


def site_modes(tx: Tx, station_id: str) -> tuple[str, ...]:
    """Return the energy transfer modes of a station: we never discharge unless told to."""
    kinds = {evse.current_type for evse in stations.evses_of_station(tx, station_id)}
    return (*(_AC_MODES if "AC" in kinds else ()), *(_DC_MODES if "DC" in kinds else ()))


def _is_allowed(tx: Tx, report: NeedReported) -> bool:
    session = sessions.open_session_on_evse(tx, report.station_id, report.evse_id)
    known = None if session is None else stored.find(tx, session.session_id)
    if known is not None and known.allowed_modes:
        return report.mode in known.allowed_modes
    # What goes back to the grid has to be allowed for each transaction by name.
    return "BPT" not in report.mode and "DER" not in report.mode


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _alarm(tx: Tx, report: RecordReceived, kind: str, detail: Mapping[str, object]) -> None:
    journal.add_event(
        tx,
        Event(
            at=report.received_at,
            kind=kind,
            level="warning",
            station_id=report.station_id,
            detail=dict(detail),
        ),
    )
