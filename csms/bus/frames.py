"""Frames of a gateway node on their way to the centre's archive: batches, as well as it goes.

They are a record of what was on the wire and nothing is decided by them: what waits while no
centre is reached is kept up to a bound, and a batch that is lost on its way is not sent again. What
stations were answered is on record by its report.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from pydantic import TypeAdapter

from csms.bus.envelope import FRAMES, packed, unpacked
from csms.bus.nats import Line, LineDown, TooLarge
from csms.clock import Clock
from csms.core.masking import masked_text

FrameLine = tuple[float, str, str, str]
"""Seconds since 1970, station, "in" or "out", text."""

_EVERY_S = 0.5
_BATCH_CHARACTERS = 1 << 18
_KEPT_CHARACTERS = 1 << 23
_LINES: TypeAdapter[list[FrameLine]] = TypeAdapter(list[FrameLine])

log = logging.getLogger(__name__)


class FrameSender:
    """The gateway's side."""

    def __init__(
        self,
        line: Line,
        clock: Clock,
        *,
        centre: Callable[[], str],
        lost: Callable[[int], object],
    ) -> None:
        """`centre` names its run, "" while none is reached; `lost` is told of dropped frames."""
        self._line = line
        self._clock = clock
        self._centre = centre
        self._lost = lost
        self._waiting: deque[FrameLine] = deque()
        self._characters = 0

    @property
    def waiting(self) -> int:
        """How many frames wait to be sent."""
        return len(self._waiting)

    def show(self, station_id: str, direction: str, text: str) -> None:
        """Take a frame that came in or goes out; never waits."""
        self._waiting.append((self._clock.timestamp(), station_id, direction, text))
        self._characters += len(text)
        dropped = 0
        while self._characters > _KEPT_CHARACTERS:
            self._characters -= len(self._waiting.popleft()[3])
            dropped += 1
        if dropped:
            self._lost(dropped)

    async def run(self) -> None:
        """Send what waits every half second, until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_S)
            await self.flush()

    async def flush(self) -> None:
        """Send what waits, if a centre is reached."""
        while self._waiting and (centre := self._centre()):
            batch, size = [], 0
            while self._waiting and size < _BATCH_CHARACTERS:
                at, station_id, direction, text = self._waiting.popleft()
                self._characters -= len(text)
                size += len(text)
                # Here, where no message waits for it; the archive masks again.
                batch.append((at, station_id, direction, masked_text(text)))
            try:
                await self._line.say(
                    self._line.subject(FRAMES, centre), packed((), _LINES.dump_json(batch))
                )
            except (LineDown, TooLarge) as error:
                self._lost(len(batch))
                log.info("frames not sent", extra={"frames": len(batch), "why": str(error)})
                return


def receive_frames(line: Line, centre: str, take: Callable[[float, str, str, str], None]) -> None:
    """Hand what gateways send to the run `centre` to `take`, frames of one gateway in order."""

    async def came(subject: str, message: bytes, answer_to: str) -> None:
        for frame in _LINES.validate_json(unpacked(message)[1]):
            take(*frame)

    line.listen(line.subject(FRAMES, centre), came)
