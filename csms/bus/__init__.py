"""The bus between gateway and centre: messages are values, so the wire between them is a choice."""

from typing import Protocol, TypeVar

from csms.core.commands import Command, CommandResult
from csms.core.messages import Notice, Report

R = TypeVar("R")


class Bus(Protocol):
    """What gateway, service and pages say to each other, whichever process they live in."""

    async def ask(self, report: Report[R]) -> R:
        """Take `report` to the centre and return its reply, whose type is the report's.

        Raises StoreUnavailable if the centre could not record it and BusError if the centre cannot
        be reached: in both cases nothing was decided and nothing may be answered.
        """
        ...

    async def command(self, command: Command) -> CommandResult:
        """Take `command` to the gateway that holds the station's link; a refusal is a result."""
        ...

    async def notify(self, notice: Notice) -> None:
        """Show `notice` to whoever watches; it may be dropped."""
        ...
