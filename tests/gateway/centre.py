"""A small centre for the gateway's tests: the other end of the bus, with an answer for each report.

It remembers every report in order and can be told to fail, to wait, or to answer differently.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from csms.core.errors import StoreUnavailable
from csms.core.messages import (
    BootReply,
    LinkClosed,
    LinkOffered,
    LinkRefusal,
    LinkReply,
    NeedReply,
    NeedReported,
    Noted,
    Report,
    SessionReply,
    SessionReport,
    StationBooted,
    TokenPresented,
    TokenReply,
    VendorMessage,
    VendorReply,
)
from csms.core.model import Authorization, AuthorizationStatus
from csms.core.security_messages import ContractAsked, ContractReply

R = TypeVar("R")
NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
ACCEPTED = Authorization(status=AuthorizationStatus.ACCEPTED, reason="test")
PASSWORD = b"0123:456789abcdef"


class Centre:
    """Knows the stations it is told of; everything it is told is answered with a yes."""

    def __init__(self) -> None:
        self.stations: dict[str, bytes | None] = {"CS 1": None, "CS-2": None, "CS-3": PASSWORD}
        self.reports: list[Report[Any]] = []
        self.authorization = ACCEPTED
        self.boot_status = "Accepted"
        self.is_registered = True
        self.is_out = False
        self.returns_after_close = True
        self.refusal: LinkRefusal | None = None
        self.before: Callable[[Report[Any]], Any] | None = None
        self._links = 0
        self._numbers = 100
        self._changed = asyncio.Event()

    def of(self, kind: type[R]) -> list[R]:
        """Return the reports of one kind, in order."""
        return [report for report in self.reports if isinstance(report, kind)]

    async def wait_for(self, kind: type[R], count: int = 1) -> list[R]:
        """Return the reports of `kind` once there are `count` of them."""
        async with asyncio.timeout(5):
            while len(self.of(kind)) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.of(kind)

    async def handle(self, report: Report[R]) -> R:
        """Answer any report."""
        if self.is_out:
            raise StoreUnavailable("the disk is full")
        if self.before is not None:
            waiting = self.before(report)
            if waiting is not None:
                await waiting
        self.reports.append(report)
        self._changed.set()
        return self._reply(report)  # type: ignore[no-any-return]

    def _reply(self, report: Report[Any]) -> Any:
        if isinstance(report, LinkOffered):
            return self._link(report)
        if isinstance(report, StationBooted):
            return BootReply(status=self.boot_status, at=NOW, interval_s=300)
        if isinstance(report, TokenPresented):
            return TokenReply(authorization=self.authorization)
        if isinstance(report, SessionReport):
            return self._session(report)
        if isinstance(report, NeedReported):
            return NeedReply(status="Processing")
        if isinstance(report, ContractAsked):
            return ContractReply(exi_response="")
        if isinstance(report, VendorMessage):
            return VendorReply(status="UnknownVendorId")
        return Noted()

    def _session(self, report: SessionReport) -> SessionReply:
        transaction_id = report.transaction_id
        if not transaction_id:
            self._numbers += 1
            transaction_id = str(self._numbers)
        decision = self.authorization if report.id_token is not None else None
        return SessionReply(transaction_id=transaction_id, authorization=decision)

    def _link(self, report: LinkOffered) -> LinkReply:
        if self.refusal is not None:
            return LinkReply(refusal=self.refusal)
        if report.station_id not in self.stations:
            return LinkReply(refusal=LinkRefusal.UNKNOWN_STATION)
        password = self.stations[report.station_id]
        if password is not None and report.password != password:
            return LinkReply(refusal=LinkRefusal.BAD_CREDENTIAL)
        self._links += 1
        return LinkReply(
            station_id=report.station_id,
            link_id=self._links,
            is_registered=self.is_registered,
            returns_after_close=self.returns_after_close,
        )

    async def closed(self, link_id: int) -> LinkClosed:
        """Return the end of one link once it was reported."""
        async with asyncio.timeout(5):
            while True:
                for report in self.of(LinkClosed):
                    if report.link_id == link_id:
                        return report
                self._changed.clear()
                await self._changed.wait()
