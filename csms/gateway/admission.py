"""When a link may come: so many a second in all, so many a minute for one station.

After a restart everybody comes at once. Links are let in at a rate; the rest wait in line, and
who would wait too long is told when its turn is, and keeps that turn: however many come, nobody is
turned away for load a second time who comes back when it was told to.
"""

import asyncio
from collections import OrderedDict, deque
from http import HTTPStatus
from math import ceil
from typing import Final

from csms.gateway.config import GatewayConfig
from csms.gateway.handshake import Refusal

LONGEST_LINE_S: Final = 300.0
"""No turn is promised beyond this: who comes then is told to come back, and no more."""
_KEPT_S: Final = 600.0
"""A turn that was not taken is kept so long: many stations double their own back-off."""
_LEAST_S: Final = 5
_MINUTE_S: Final = 60.0


class Admission:
    """Lets links in at a rate."""

    def __init__(self, config: GatewayConfig) -> None:
        self._interval_s = 1.0 / config.admitted_per_s
        self._wait_s = config.admission_wait_s
        self._next_at = 0.0
        self._promised: OrderedDict[str, float] = OrderedDict()

    async def wait(self, station_id: str) -> None:
        """Return when it is this station's turn; raises Refusal (503) if that is too far off."""
        now = asyncio.get_running_loop().time()
        turn_at = self._turn_of(station_id.casefold(), now)
        if turn_at is None:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "crowded", retry_after=True)
        if turn_at - now > self._wait_s:
            self._promised[station_id.casefold()] = turn_at
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "crowded",
                retry_after_s=max(ceil(turn_at - now), _LEAST_S),
            )
        if turn_at > now:
            await asyncio.sleep(turn_at - now)

    def _turn_of(self, key: str, now: float) -> float | None:
        while self._promised and next(iter(self._promised.values())) + _KEPT_S < now:
            self._promised.popitem(last=False)
        promised_at = self._promised.pop(key, None)
        if promised_at is not None:
            return promised_at
        # A second's worth may come at once: single links never wait.
        turn_at = max(self._next_at, now - 1.0) + self._interval_s
        if turn_at - now > LONGEST_LINE_S:
            return None
        self._next_at = turn_at
        return turn_at


class Flaps:
    """Stations whose links come and go: so many new links a minute, and no more.

    An identity is the same in any case of its letters.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._at: dict[str, deque[float]] = {}
        self._limited: dict[str, str] = {}

    def note(self, station_id: str, now: float) -> None:
        """Remember a new link."""
        self._at.setdefault(station_id.casefold(), deque(maxlen=self._per_minute)).append(now)

    def are_too_many(self, station_id: str, now: float) -> bool:
        """Return whether the last minute has seen as many links as are permitted."""
        past = self._at.get(station_id.casefold())
        return past is not None and len(past) == past.maxlen and now - past[0] < _MINUTE_S

    def is_news(self, station_id: str) -> bool:
        """Take note that a station is limited; return whether it was not until now."""
        key = station_id.casefold()
        if key in self._limited:
            return False
        self._limited[key] = station_id
        return True

    def calmed(self, now: float) -> list[str]:
        """Return the stations that were limited and have made no new link for a minute."""
        for key in [s for s, past in self._at.items() if now - past[-1] >= _MINUTE_S]:
            del self._at[key]
        calm = [key for key in self._limited if key not in self._at]
        return [self._limited.pop(key) for key in calm]
