"""Both ends of the bus in one process: a message is a function call.

The ends are attached after construction, because gateway and centre each need the bus first.
"""

import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from csms.core.commands import Command, CommandResult, Outcome
from csms.core.errors import BusError
from csms.core.messages import CommandHandler, Notice, NoticeHandler, Report, ReportHandler

R = TypeVar("R")

log = logging.getLogger(__name__)


class LocalBus:
    """A Bus whose ends are objects of this process."""

    def __init__(self) -> None:
        self._centre: ReportHandler | None = None
        self._gateway: CommandHandler | None = None
        self._watchers: list[NoticeHandler] = []

    def attach_centre(self, handler: ReportHandler) -> None:
        """Let `handler` answer reports from now on."""
        self._centre = handler

    def attach_gateway(self, handler: CommandHandler) -> None:
        """Let `handler` carry out commands from now on."""
        self._gateway = handler

    def attach_notices(self, handler: NoticeHandler) -> None:
        """Show notices to `handler` as well."""
        self._watchers.append(handler)

    def ask(self, report: Report[R]) -> Coroutine[Any, Any, R]:
        """Return the centre's reply, to be awaited; raises BusError while no centre is attached."""
        if self._centre is None:
            raise BusError("no centre is attached to the bus")
        return self._centre.handle(report)

    async def command(self, command: Command) -> CommandResult:
        """Return what came of `command`; without a gateway it is not sent."""
        if self._gateway is None:
            return CommandResult(outcome=Outcome.NOT_SENT, why_not_sent="offline")
        return await self._gateway.execute(command)

    async def notify(self, notice: Notice) -> None:
        """Show `notice` to every watcher; one that fails is logged and harms nobody."""
        for watcher in self._watchers:
            try:
                watcher.show(notice)
            except Exception:
                log.exception("notice not shown", extra={"kind": notice.kind})
