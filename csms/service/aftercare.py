"""What follows from a transaction's record: asking for what is missing, telling what it costs.

A gap in a transaction's numbers may be filled by messages the station still holds, or never;
GetTransactionStatus tells which. A station that comes back is asked the same of what was open when
it went away. Nothing is asked where automation is off.
"""

import json
from datetime import datetime

import structlog

from csms.clock import Clock
from csms.core import session as folds
from csms.core.commands import CommandResult, Configure, RawCall
from csms.core.model import Event, OcppVersion, Session, SessionState, Station
from csms.service.background import Background
from csms.service.charging import Effect
from csms.service.costs import Costs
from csms.service.devices import Devices
from csms.store import journal, sessions, stations
from csms.store.database import Store
from csms.store.statements import Tx

log = structlog.get_logger(__name__)

_SHOWS_COST = (("TariffCostCtrlr", "Available", "Cost"), ("TariffCostCtrlr", "Enabled", "Cost"))
_MASTER_PASS = "AuthCtrlr.MasterPassGroupId"


class Aftercare:
    """Works in the background, after the answers."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        devices: Devices,
        background: Background,
        costs: Costs,
        master_group: str,
    ) -> None:
        """`master_group` is the group name of master passes, "" where there are none."""
        self.store = store
        self.clock = clock
        self.devices = devices
        self.background = background
        self.costs = costs
        self.master_group = master_group
        self._shows_cost: dict[str, tuple[int, bool]] = {}
        self._told_wh: dict[str, float] = {}
        self._telling: set[str] = set()

    # --- what happened

    def changed(self, effect: Effect) -> None:
        """Take note of a session whose record is durable."""
        session = effect.session
        if session.version is OcppVersion.V16:
            return
        if session.state is SessionState.ENDED:
            self._told_wh.pop(session.session_id, None)
            if folds.MESSAGES_MISSING in session.flags:
                name = f"gap of {session.session_id}"
                self.background.start(name, lambda: self._ask_alone(session))
        elif session.site_id in self.costs.tariff_of and session.session_id not in self._telling:
            if session.energy_wh > self._told_wh.get(session.session_id, 0.0):
                self._telling.add(session.session_id)
                name = f"cost of {session.session_id}"
                self.background.start(name, lambda: self._tell(session))

    async def station_up(self, station_id: str) -> None:
        """Ask a station that has come back what became of its transactions."""
        station, unsettled = await self.store.read(lambda tx: _unsettled(tx, station_id))
        if station is None or not self._may_ask(station):
            return
        if station.version is OcppVersion.V16:
            return
        if self.master_group:
            await self.devices.run(
                Configure(
                    station_id=station.station_id, values=((_MASTER_PASS, self.master_group),)
                ),
                asked_by="tasco",
            )
        for session in unsettled:
            await self._ask(session)

    def _may_ask(self, station: Station) -> bool:
        return self.devices.automation and station.automation

    # --- transactions

    async def _ask_alone(self, session: Session) -> None:
        station = await self.store.read(lambda tx: stations.find_station(tx, session.station_id))
        if station is not None and self._may_ask(station):
            await self._ask(session)

    async def _ask(self, session: Session) -> None:
        result = await self._run(
            session.station_id,
            "GetTransactionStatus",
            {"transactionId": session.transaction_id},
        )
        if result.answer is None or not result.is_accepted:
            return
        if result.answer.get("messagesInQueue") is not False:
            # What is missing will come by itself.
            return
        is_over = result.answer.get("ongoingIndicator") is False
        at = self.clock.now()
        await self.store.write(lambda tx: _settle(tx, session, is_over=is_over, at=at))

    # --- costs

    async def _tell(self, session: Session) -> None:
        """Tell the station what the transaction costs so far, where it shows that."""
        try:
            if not await self._does_show_cost(session.station_id):
                self._told_wh[session.session_id] = float("inf")
                return
            while True:
                now, cost = await self.store.read(lambda tx: self._cost_now(tx, session))
                if now is None or cost is None:
                    return
                told_wh = self._told_wh.get(session.session_id, 0.0)
                if now.state is SessionState.ENDED or now.energy_wh <= told_wh:
                    return
                self._told_wh[session.session_id] = now.energy_wh
                await self._run(
                    session.station_id,
                    "CostUpdated",
                    {"totalCost": cost, "transactionId": session.transaction_id},
                )
        finally:
            self._telling.discard(session.session_id)

    def _cost_now(self, tx: Tx, session: Session) -> tuple[Session | None, float | None]:
        now = sessions.by_transaction(tx, session.station_id, session.transaction_id)
        return now, None if now is None else self.costs.of(tx, now)

    async def _does_show_cost(self, station_id: str) -> bool:
        """Return whether a station shows running costs; it is asked once on each link."""
        station = await self.store.read(lambda tx: stations.find_station(tx, station_id))
        if station is None or not self._may_ask(station):
            return False
        known = self._shows_cost.get(station_id)
        if known is not None and known[0] == station.link_id:
            return known[1]
        wanted = [
            {"component": {"name": c}, "variable": {"name": v, "instance": i}}
            for c, v, i in _SHOWS_COST
        ]
        result = await self._run(station_id, "GetVariables", {"getVariableData": wanted})
        shows = result.is_accepted and result.answer is not None and _all_true(result.answer)
        self._shows_cost[station_id] = (station.link_id, shows)
        return shows

    async def _run(self, station_id: str, action: str, payload: object) -> CommandResult:
        call = RawCall(station_id=station_id, action=action, payload_json=json.dumps(payload))
        _, result = await self.devices.run(call, asked_by="tasco")
        return result


def _all_true(answer: object) -> bool:
    assert isinstance(answer, dict)
    found = answer.get("getVariableResult", [])
    values = [str(item.get("attributeValue", "")).lower() for item in found]
    return len(values) == len(_SHOWS_COST) and all(value == "true" for value in values)


def _unsettled(tx: Tx, station_id: str) -> tuple[Station | None, list[Session]]:
    """Return the station with its transactions that are open, or ended with a gap."""
    station = stations.find_station(tx, station_id)
    if station is None or station.version is OcppVersion.V16:
        return station, []
    linked_at = station.linked_at
    newest = sessions.list_transactions(tx, station_id=station.station_id, limit=20).items
    return station, [
        s
        for s in newest
        if s.version is not OcppVersion.V16
        # What began on this link is told as it happens.
        and (linked_at is None or s.received_at < linked_at)
        and (s.state is SessionState.OPEN or folds.MESSAGES_MISSING in s.flags)
    ]


def _settle(tx: Tx, session: Session, *, is_over: bool, at: datetime) -> None:
    """Keep that the station has nothing more to say of a transaction."""
    now = sessions.by_transaction(tx, session.station_id, session.transaction_id)
    if now is None:
        return
    after = now
    if folds.MESSAGES_MISSING in now.flags:
        after = folds.flagged(folds.without(now, folds.MESSAGES_MISSING), folds.MESSAGES_LOST)
    if is_over and now.state is SessionState.OPEN:
        after = folds.closed_administratively(
            after, now=at, reason="over, as its station says; no end received"
        )
    if after == now:
        return
    sessions.save(tx, after)
    journal.add_event(
        tx,
        Event(
            at=at,
            kind="transaction settled without all its messages",
            level="warning",
            site_id=now.site_id,
            station_id=now.station_id,
            session_id=now.session_id,
            detail={"is_over": is_over, "flags": list(after.flags)},
        ),
    )
