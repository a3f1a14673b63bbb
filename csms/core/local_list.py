"""Local authorization lists: what a station should hold, and the messages that bring it there.

A list serves drivers while the centre is away (identity.md 5.2). Versions rise with every message;
a station whose version is not the one on record gets a full list.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from csms.core.model import AuthorizationStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class ListEntry:
    """A token as a station holds it: `kind` is the OCPP 2.0.1 type, `group` the group token."""

    value: str
    kind: str
    status: AuthorizationStatus = AuthorizationStatus.ACCEPTED
    expires_at: datetime | None = None
    group: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What tells entries apart."""
        return self.kind, self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class ListLimits:
    """What a station can take: entries in all, per message, and bytes per message; 0 if unknown."""

    max_entries: int = 0
    items_per_message: int = 0
    bytes_per_message: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ListUpdate:
    """One SendLocalList: `removed` are entries without their info, which takes them off."""

    is_full: bool
    version: int
    entries: tuple[ListEntry, ...]
    removed: tuple[ListEntry, ...] = ()


ITEMS_WHEN_UNKNOWN = 50
"""Entries in one message to a station that reports no limit."""


def changes(
    wanted: Sequence[ListEntry], held: Mapping[tuple[str, str], ListEntry], *, renew: timedelta
) -> tuple[list[ListEntry], list[ListEntry]]:
    """Return the entries to send and those to take off a station that holds `held`.

    An end date alone is news only once it is off by `renew`, or too late: lists are kept by end
    dates that move on with the clock.
    """
    new = []
    for entry in wanted:
        old = held.get(entry.key)
        if old is None or (old.status, old.group) != (entry.status, entry.group):
            new.append(entry)
        elif not _is_near(old.expires_at, entry.expires_at, renew):
            new.append(entry)
    keys = {entry.key for entry in wanted}
    return new, [entry for key, entry in held.items() if key not in keys]


def _is_near(old: datetime | None, new: datetime | None, renew: timedelta) -> bool:
    if old is None or new is None:
        return old is new
    return timedelta(0) <= new - old < renew


def updates(
    entries: Sequence[ListEntry],
    removed: Sequence[ListEntry],
    *,
    is_full: bool,
    version: int,
    limits: ListLimits,
    size: Callable[[ListUpdate], int],
) -> list[ListUpdate]:
    """Return the messages that send `entries` and take `removed` off.

    Versions rise from `version`. Each keeps to the limits; `size` gives the bytes of a message. The
    first may be a full list, the rest are differential.
    """
    items = [(e, True) for e in entries] + ([] if is_full else [(e, False) for e in removed])
    most = limits.items_per_message or ITEMS_WHEN_UNKNOWN
    found: list[ListUpdate] = []
    while items:
        count = min(most, len(items))
        message = _message(items[:count], is_full and not found, version + len(found))
        while count > 1 and limits.bytes_per_message and size(message) > limits.bytes_per_message:
            count = max(count * 9 // 10, 1)
            message = _message(items[:count], message.is_full, message.version)
        found.append(message)
        items = items[count:]
    return found


def _message(items: Sequence[tuple[ListEntry, bool]], is_full: bool, version: int) -> ListUpdate:
    return ListUpdate(
        is_full=is_full,
        version=version,
        entries=tuple(entry for entry, is_kept in items if is_kept),
        removed=tuple(entry for entry, is_kept in items if not is_kept),
    )
