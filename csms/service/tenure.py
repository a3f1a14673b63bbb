"""One centre leads on a store: its lease, kept up while it lives and watched by who wants it.

Whether a holder lives shows in its lease being renewed, seen on the watcher's own monotonic clock:
no two machines' clocks have to agree. A holder that could not renew for most of that time decides
nothing until it has, since another may lead by then.
"""

import asyncio
import time
from typing import Final

import structlog

from csms.core.errors import Conflict, StoreUnavailable
from csms.store import leases
from csms.store.database import Store

log = structlog.get_logger(__name__)

CENTRE: Final = "centre"
LEASE_S: Final = 15.0
"""A centre that was killed is replaced after this."""
_RENEW_S: Final = 3.0
_SURE_SHARE: Final = 0.8
_LOOK_S: Final = 0.5


class Tenure:
    """This process's lease of the store."""

    def __init__(self, store: Store, holder: str, *, lease_s: float = LEASE_S) -> None:
        """`holder` names this run of the process, and no other."""
        self.store = store
        self.holder = holder
        self.lease_s = lease_s
        self._sure_until = 0.0

    def holds(self) -> bool:
        """Whether nobody else can lead at this moment."""
        return time.monotonic() < self._sure_until

    async def take(self) -> None:
        """Become the one that leads; waits for a lease that is not renewed any more to run out.

        Raises Conflict where its holder lives.
        """
        while True:
            began = time.monotonic()
            over = await left_over(self.store, lease_s=self.lease_s)
            began = time.monotonic() if over is not None else began
            taken = await self.store.write(
                lambda tx, over=over: leases.take_lease(tx, CENTRE, self.holder, over=over)  # type: ignore[misc]
            )
            if taken:
                self._extend(began)
                if over is not None:
                    log.warning("the lease of a centre that is gone is taken", of=over.holder)
                return

    async def run(self) -> None:
        """Renew the lease until cancelled; raises Conflict once another leads."""
        while True:
            await asyncio.sleep(min(_RENEW_S, self.lease_s / 5))
            began = time.monotonic()
            try:
                renewed = await self.store.write(
                    lambda tx: leases.renew_lease(tx, CENTRE, self.holder)
                )
            except StoreUnavailable as error:
                log.warning("lease not renewed", why=str(error))
                continue
            if not renewed:
                raise Conflict("another centre leads on this store by now; this one ends")
            self._extend(began)

    async def release(self) -> None:
        """Let another lead at once."""
        self._sure_until = 0.0
        try:
            await self.store.write(lambda tx: leases.drop_lease(tx, CENTRE, self.holder))
        except StoreUnavailable as error:
            log.warning("lease not released", why=str(error))

    def _extend(self, began: float) -> None:
        self._sure_until = began + self.lease_s * _SURE_SHARE


async def left_over(store: Store, *, lease_s: float = LEASE_S) -> leases.Lease | None:
    """Return the lease of a centre that is gone, None where there is none.

    Raises Conflict if its holder renews it while we look.
    """
    found = await store.read(lambda tx: leases.get_lease(tx, CENTRE))
    if found is None:
        return None
    log.info("waiting whether a centre lives", holder=found.holder, at_most_s=lease_s)
    until = time.monotonic() + lease_s
    while time.monotonic() < until:
        await asyncio.sleep(min(_LOOK_S, lease_s / 10))
        now = await store.read(lambda tx: leases.get_lease(tx, CENTRE))
        if now is None:
            return None
        if now != found:
            raise Conflict(
                f"{now.holder} is the centre of this store; one leads at a time: stop it first"
            )
    return found


async def clear_left_over(store: Store, *, lease_s: float = LEASE_S) -> None:
    """Drop the lease of a centre that is gone, for a process that leads without one.

    Raises Conflict if a centre lives.
    """
    over = await left_over(store, lease_s=lease_s)
    if over is not None:
        await store.write(lambda tx: leases.drop_lease(tx, CENTRE, over.holder))
