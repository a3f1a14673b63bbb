"""Dialects: kept as stations tell them, learned from what they refuse, set by operators.

Every command passes here on its way to the record. What a station answers to ReadLimits becomes
"asked"; a profile that was not accepted becomes a lesson, in the transaction that keeps its
outcome, so that the next one is another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime

import structlog

from csms.clock import Clock
from csms.core.commands import Command, CommandResult, Outcome, ReadLimits, SetGuard, SetSchedule
from csms.core.dialect import (
    ASKED,
    ASSUMED,
    ITEMS,
    LEARNED,
    OPERATOR,
    DialectItem,
    Lesson,
    checked,
    winners,
)
from csms.core.errors import InvalidInput
from csms.core.model import Event, Session, SessionState, Station, StationLimits
from csms.planning.cascade import following
from csms.planning.refusals import TRIED, lessons
from csms.store import dialects, journal, plans, sessions, stations
from csms.store.database import Store
from csms.store.statements import Tx

log = structlog.get_logger(__name__)


class DialectWatcher:
    """Learns from the outcome of every command; see devices.CommandWatcher."""

    def asked(self, tx: Tx, command: Command, *, at: datetime) -> None:
        """Nothing is learned from a question."""

    def ended(self, tx: Tx, command: Command, result: CommandResult, *, at: datetime) -> None:
        """Learn what the outcome of `command` says about its station."""
        if isinstance(command, ReadLimits):
            if result.outcome is Outcome.ACCEPTED:
                _told(tx, command.station_id, result.told, at=at)
            return
        if not isinstance(command, SetSchedule | SetGuard):
            return
        if isinstance(command, SetSchedule) and command.is_update:
            # It may have forgotten the profile: it is sent whole, and that answer tells.
            return
        station = stations.find_station(tx, command.station_id)
        if station is None:
            return
        session = None
        if isinstance(command, SetSchedule):
            session = sessions.by_transaction(tx, command.station_id, command.transaction_id)
        if result.is_accepted:
            _confirmed(tx, station, session)
            return
        if session is not None and session.state is SessionState.ENDED:
            # There was no transaction any more: 1.6 has no word for that but Rejected.
            return
        won = winners(dialects.items_for(tx, station), station)
        sources = {name: item.source for name, item in won.items()}
        taken = plans.taken_by(tx, station.station_id) if session is not None else ()
        after = ""
        if session is not None:
            evses = len(stations.evses_of_station(tx, station.station_id))
            after = following(station.limits.cascade, evses=evses)
        found = lessons(
            command.schedule,
            station.limits,
            result,
            sources=sources,
            taken=taken,
            next_cascade=after,
        )
        if found:
            _learned(tx, station, found, at=at)
        elif result.outcome in (Outcome.REJECTED, Outcome.CALL_ERROR):
            _given_up(tx, station, result, at=at)


def _told(tx: Tx, station_id: str, told: Mapping[str, object], *, at: datetime) -> None:
    station = stations.find_station(tx, station_id)
    if station is None:
        return
    items = dialects.items_for(tx, station)
    known = {
        i.name: i
        for i in items
        if i.source == ASKED and i.station_id and i.firmware == station.firmware_version
    }
    for name, told_value in told.items():
        try:
            value = checked(name, told_value)
        except InvalidInput as error:
            log.warning("dialect item not usable", station_id=station_id, why=str(error))
            continue
        item = DialectItem(
            name=name,
            value=value,
            source=ASKED,
            at=at,
            why="asked",
            station_id=station.station_id,
            firmware=station.firmware_version,
        )
        before = known.get(name)
        if before is not None and before.value != item.value:
            # It was set up anew: what was learned of its old ways is over.
            dialects.drop_item(
                tx, name, LEARNED, station_id=station.station_id, firmware=station.firmware_version
            )
        dialects.put_item(tx, item)
        _put_of_model(tx, station, item, items)
    dialects.resolve(tx, station)


def _put_of_model(
    tx: Tx, station: Station, item: DialectItem, known: Sequence[DialectItem]
) -> bool:
    """Keep `item` for the station's model as well; return whether that is news.

    Ten thousand stations of one model tell the same: it is written, and its stations looked up,
    once.
    """
    if not station.vendor:
        return False
    of_model = replace(
        item,
        station_id="",
        vendor=station.vendor,
        model=station.model,
        firmware=station.firmware_version,
    )
    if any(replace(i, at=of_model.at) == of_model for i in known if not i.station_id):
        return False
    dialects.put_item(tx, of_model)
    return True


def _learned(tx: Tx, station: Station, found: Sequence[Lesson], *, at: datetime) -> None:
    known = dialects.items_for(tx, station)
    if any(lesson.name == "cascade" for lesson in found):
        # It was the purpose: whatever else was tried before did not help.
        _drop(tx, station, _tried(known))
    for lesson in found:
        item = DialectItem(
            name=lesson.name,
            value=lesson.value,
            source=LEARNED,
            at=at,
            why=lesson.why,
            station_id=station.station_id,
            firmware=station.firmware_version,
        )
        dialects.put_item(tx, item)
        if lesson.is_of_model and _put_of_model(tx, station, item, known):
            dialects.resolve_model(tx, station.vendor, station.model)
        journal.add_event(
            tx,
            Event(
                at=at,
                kind="dialect learned",
                site_id=station.site_id,
                station_id=station.station_id,
                detail={"item": lesson.name, "value": _plain(lesson.value), "why": lesson.why},
            ),
        )
    dialects.resolve(tx, station)


def _confirmed(tx: Tx, station: Station, session: Session | None) -> None:
    """Keep what was tried: with it the station accepted a profile it refused without.

    A profile of another session says nothing about that: what was tried for one that ended
    meanwhile is dropped.
    """
    if station.limits.source != LEARNED:
        return
    known = dialects.items_for(tx, station)
    tried = _tried(known)
    if not tried:
        return
    if session is not None and not plans.refused_schedules(tx, [session.session_id]):
        _drop(tx, station, tried)
        return
    for item in tried:
        kept = replace(item, why=item.why.removeprefix(TRIED))
        dialects.put_item(tx, kept)
        # A station that takes one purpose and refuses another is built that way.
        if item.name == "cascade" and _put_of_model(tx, station, kept, known):
            dialects.resolve_model(tx, station.vendor, station.model)


def _drop(tx: Tx, station: Station, tried: Sequence[DialectItem]) -> None:
    if not tried:
        return
    for item in tried:
        dialects.drop_item(
            tx, item.name, LEARNED, station_id=station.station_id, firmware=item.firmware
        )
    dialects.resolve(tx, station)


def _given_up(tx: Tx, station: Station, result: CommandResult, *, at: datetime) -> None:
    """Drop what was tried: nothing helped, so it says nothing. An operator has to look."""
    _drop(tx, station, _tried(dialects.items_for(tx, station)))
    journal.add_event(
        tx,
        Event(
            at=at,
            kind="profile refused",
            level="warning",
            site_id=station.site_id,
            station_id=station.station_id,
            detail={
                "outcome": str(result.outcome),
                "status": result.status,
                "reason": result.reason,
                "error_code": result.error_code,
            },
        ),
    )


def _tried(items: Sequence[DialectItem]) -> list[DialectItem]:
    return [
        item
        for item in items
        if item.station_id and item.source == LEARNED and item.why.startswith(TRIED)
    ]


def learn(tx: Tx, station_id: str, found: Sequence[Lesson], *, at: datetime) -> bool:
    """Keep what was seen of a station by other means than a refusal; return whether it is new."""
    station = stations.find_station(tx, station_id)
    if station is None:
        return False
    new = [lesson for lesson in found if getattr(station.limits, lesson.name) != lesson.value]
    if new:
        _learned(tx, station, new, at=at)
    return bool(new)


def settle(tx: Tx, station: Station, lesson: Lesson, *, at: datetime) -> None:
    """Keep for a whole model what was only watched on one station until now."""
    _learned(tx, station, [lesson], at=at)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


# --- shown and overridden ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownItem:
    """An item as the API shows it; `says` are all that somebody said, the one that counts first."""

    name: str
    value: object
    source: str
    at: datetime | None = None
    why: str = ""
    of: str = ""
    says: tuple[Mapping[str, object], ...] = ()


class DialectBook:
    """What is known of stations' dialects, for people to see and to overrule."""

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock

    async def of_station(self, station_id: str) -> tuple[ShownItem, ...]:
        """Return every item of a station; raise UnknownStation."""

        def work(tx: Tx) -> tuple[ShownItem, ...]:
            station = stations.get_station(tx, station_id)
            return shown(dialects.items_for(tx, station), station)

        return await self.store.read(work)

    async def models(self) -> list[Mapping[str, object]]:
        """Return the items of every model, by vendor, model and firmware."""
        items = await self.store.read(dialects.items_of_models)
        found: dict[tuple[str, str, str], list[Mapping[str, object]]] = {}
        for item in items:
            key = (item.vendor, item.model, item.firmware)
            found.setdefault(key, []).append(_said(item))
        return [
            {"vendor": v, "model": m, "firmware": f, "items": said}
            for (v, m, f), said in found.items()
        ]

    async def set_station(
        self, station_id: str, values: Mapping[str, object], *, by: str
    ) -> tuple[ShownItem, ...]:
        """Overrule items of one station; None gives an item back to what is known of it.

        Raises UnknownStation, InvalidInput.
        """
        now = self.clock.now()

        def work(tx: Tx) -> tuple[ShownItem, ...]:
            station = stations.get_station(tx, station_id)
            for name, value in values.items():
                if value is None:
                    dialects.drop_item(tx, name, OPERATOR, station_id=station.station_id)
                    continue
                item = DialectItem(
                    name=name,
                    value=checked(name, value),
                    source=OPERATOR,
                    at=now,
                    why=f"by {by}",
                    station_id=station.station_id,
                )
                dialects.put_item(tx, item)
            dialects.resolve(tx, station)
            journal.add_event(tx, _overruled(station, values, at=now, by=by))
            return shown(dialects.items_for(tx, station), station)

        return await self.store.write(work)

    async def set_model(
        self, vendor: str, model: str, firmware: str, values: Mapping[str, object], *, by: str
    ) -> None:
        """Overrule items of every station of a model; an empty `firmware` means every one.

        Raises InvalidInput.
        """
        if not vendor or not model:
            raise InvalidInput("vendor and model are empty; they must be as stations boot with")
        now = self.clock.now()

        def work(tx: Tx) -> None:
            for name, value in values.items():
                if value is None:
                    dialects.drop_item(
                        tx, name, OPERATOR, vendor=vendor, model=model, firmware=firmware
                    )
                    continue
                item = DialectItem(
                    name=name,
                    value=checked(name, value),
                    source=OPERATOR,
                    at=now,
                    why=f"by {by}",
                    vendor=vendor,
                    model=model,
                    firmware=firmware,
                )
                dialects.put_item(tx, item)
            dialects.resolve_model(tx, vendor, model)

        await self.store.write(work)

    async def forget(self, station_id: str) -> tuple[ShownItem, ...]:
        """Drop what was learned of a station and its model; raise UnknownStation."""

        def work(tx: Tx) -> tuple[ShownItem, ...]:
            station = stations.get_station(tx, station_id)
            for item in dialects.items_for(tx, station):
                if item.source == LEARNED:
                    dialects.drop_item(
                        tx,
                        item.name,
                        LEARNED,
                        station_id=item.station_id,
                        vendor=item.vendor,
                        model=item.model,
                        firmware=item.firmware,
                    )
            dialects.resolve_model(tx, station.vendor, station.model)
            dialects.resolve(tx, station)
            return shown(dialects.items_for(tx, station), station)

        return await self.store.write(work)


def shown(items: Sequence[DialectItem], station: Station) -> tuple[ShownItem, ...]:
    """Return every item there is, with its winner and who else said something."""
    won = winners(items, station)
    assumed = asdict(StationLimits())
    found = []
    for name, value in assumed.items():
        if name not in ITEMS:
            continue
        winner = won.get(name)
        says = tuple(_said(i) for i in items if i.name == name)
        if winner is None:
            found.append(ShownItem(name=name, value=_plain(value), source=ASSUMED, says=says))
            continue
        found.append(
            ShownItem(
                name=name,
                value=_plain(winner.value),
                source=winner.source,
                at=winner.at,
                why=winner.why,
                of="station" if winner.station_id else "model",
                says=says,
            )
        )
    return tuple(found)


def _said(item: DialectItem) -> Mapping[str, object]:
    return {
        "name": item.name,
        "value": _plain(item.value),
        "source": item.source,
        "at": item.at,
        "why": item.why,
        "of": "station" if item.station_id else "model",
        "firmware": item.firmware,
    }


def _overruled(station: Station, values: Mapping[str, object], *, at: datetime, by: str) -> Event:
    return Event(
        at=at,
        kind="dialect overruled",
        site_id=station.site_id,
        station_id=station.station_id,
        detail={"by": by, "items": dict(values)},
    )
