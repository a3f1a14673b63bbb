"""Settling: what a station that came up is asked and given, a few stations at a time.

After a restart every station comes up at once. Links and boots go first: while many arrive, what
is to be asked of them waits in line, and then a few are settled at a time. The stations of one site
go together, the site first whose first station came first: each site is then planned for all of
its stations at once, not again and again for as long as the whole line takes. A lone station never
waits. A station that comes up again while it stands in line stands there once.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final

import structlog

from csms.core.errors import NotFound, StoreUnavailable
from csms.service.background import Background

AT_ONCE: Final = 16
"""Stations that are settled at a time: each waits for answers most of the time."""
MANY: Final = 32
WITHIN_S: Final = 1.0
"""MANY stations that come up within this time are a storm."""
LONGEST_HOLD_S: Final = 60.0
"""However many come up: after this time the line moves."""
_LOOK_S: Final = 0.25

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Why a station is to be settled; `is_new` if it may hold nothing that we gave it before.

    `since` is when it took its place in line, by the loop's clock.
    """

    why: str
    is_new: bool
    since: float


Settle = Callable[[str, Due], Awaitable[None]]


class Settling:
    """The line of stations to settle. Belongs to one event loop."""

    def __init__(self, settle: Settle, background: Background) -> None:
        """`settle(station_id, due)` does the work for one station."""
        self._settle = settle
        self._background = background
        self._turn: dict[str, Due] = {}
        """The stations whose turn it is; who comes later is not among them."""
        self._line: dict[str, dict[str, Due]] = {}
        """Those behind them by site; the sites in the order of their first stations."""
        self._under_way: set[str] = set()
        self._came_up: deque[float] = deque(maxlen=MANY)

    @property
    def waiting(self) -> int:
        """How many stations stand in line."""
        return len(self._turn) + sum(len(stations) for stations in self._line.values())

    @property
    def under_way(self) -> int:
        """How many are being settled."""
        return len(self._under_way)

    def came_up(self, station_id: str, why: str, *, is_new: bool, site_id: str = "") -> None:
        """Settle a station as soon as the line allows; `site_id` is "" where it is not known."""
        now = asyncio.get_running_loop().time()
        self._came_up.append(now)
        place = self._turn
        if station_id not in place:
            place = self._line.setdefault(site_id, {})
        before = place.get(station_id)
        if before is not None:
            is_new, now = is_new or before.is_new, before.since
        place[station_id] = Due(why=why, is_new=is_new, since=now)
        self._go_on()

    def _go_on(self) -> None:
        if not self.waiting or len(self._under_way) >= AT_ONCE:
            return
        if self._has_to_hold():
            self._background.start("settle later", self._look_again)
            return
        while True:
            ready = (s for s in self._turn if s not in self._under_way)
            for station_id in list(islice(ready, AT_ONCE - len(self._under_way))):
                self._begin(station_id, self._turn.pop(station_id))
            if not self._line or len(self._under_way) >= AT_ONCE:
                return
            self._turn |= self._line.pop(next(iter(self._line)))

    def _has_to_hold(self) -> bool:
        now = asyncio.get_running_loop().time()
        first = self._turn or next(iter(self._line.values()))
        oldest = next(iter(first.values()))
        is_storm = len(self._came_up) == MANY and now - self._came_up[0] < WITHIN_S
        return is_storm and now - oldest.since < LONGEST_HOLD_S

    async def _look_again(self) -> None:
        await asyncio.sleep(_LOOK_S)
        self._go_on()

    def _begin(self, station_id: str, due: Due) -> None:
        self._under_way.add(station_id)

        async def work() -> None:
            try:
                await self._settle(station_id, due)
            except NotFound:
                log.info("station removed while it settled", station_id=station_id)
            except StoreUnavailable as error:
                # The link ends with it; the station is settled when it is back.
                log.warning("station not settled", station_id=station_id, why=str(error))
            except Exception:
                # The edge of a task; the line goes on.
                log.exception("station not settled", station_id=station_id)
            self._under_way.discard(station_id)
            self._go_on()

        self._background.start(f"settle {station_id}", work)
