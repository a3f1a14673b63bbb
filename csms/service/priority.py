"""Priority charging that we begin: the others are lowered first, then the one in a hurry is let go.

A station that is told UsePriorityCharging charges at once with all its EVSE can give (OCPP 2.1
K22). Were the others lowered only when it says so, the site would exceed its limit in between.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from csms.core.commands import Command, CommandResult, RawCall
from csms.core.model import LinkState, Session
from csms.core.terms import Terms
from csms.service.devices import Devices
from csms.store import sessions, stations
from csms.store import terms as stored
from csms.store.database import Store
from csms.store.statements import Tx

USE_PRIORITY = "UsePriorityCharging"
NO_ROOM = "others not lowered"
WITHIN_S = 20.0
"""Machine seconds that the others have for taking their lower schedules."""


@dataclass(slots=True)
class Priority:
    """Prepares UsePriorityCharging. `planned` plans a site and says whether all took it."""

    store: Store
    devices: Devices
    touch: Callable[[str, str], None]
    planned: Callable[[str, str], Awaitable[bool]]
    within_s: float = WITHIN_S

    async def prepare(self, command: Command) -> str:
        """Count a transaction as prioritised and wait until the others leave it its power.

        With hands off the station, and for a transaction nobody knows, nothing is prepared.
        """
        session = await self._mark(command, is_on=True)
        if session is None:
            return ""
        try:
            async with asyncio.timeout(self.within_s):
                if await self.planned(session.site_id, "priority charging asked for"):
                    return ""
        except TimeoutError:
            pass
        return NO_ROOM

    async def settled(self, command: Command, result: CommandResult) -> None:
        """Give the others their power back where the station does not charge with priority."""
        if result.is_accepted:
            return
        session = await self._mark(command, is_on=False)
        if session is not None:
            self.touch(session.site_id, "priority charging off")

    async def _mark(self, command: Command, *, is_on: bool) -> Session | None:
        """Keep whether a transaction has priority; None where the command is not about that."""
        assert isinstance(command, RawCall)
        payload = command.payload()
        if payload.get("activate") is not True or not self.devices.automation:
            return None

        def work(tx: Tx) -> Session | None:
            station = stations.get_station(tx, command.station_id)
            session = sessions.by_transaction(
                tx, command.station_id, str(payload.get("transactionId", ""))
            )
            is_ours = station.automation and station.link_state is LinkState.ONLINE
            if session is None or session.ended_at is not None or not is_ours:
                return None
            known = stored.find(tx, session.session_id) or Terms(session_id=session.session_id)
            stored.save(tx, replace(known, is_prioritised=is_on))
            return session

        return await self.store.write(work)
