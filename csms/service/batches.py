"""Which changes of a plan may be in flight together, so that the site keeps its limits throughout.

A station follows what it has accepted until something newer is accepted: what is in flight counts
as the larger of old and new.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from csms.core.model import Site
from csms.core.plan import PlanningCase
from csms.planning.in_flight import InFlight
from csms.service.cars import Car, in_force_kw, own_guard_kw

TOLERANCE_KW = 1e-6
WORTH_KW = 0.05
"""A raise of less than this in every slot is not worth a message."""

Row = tuple[float, ...]


@dataclass(slots=True)
class Change:
    """One car on its way from what may be in force to what is planned, rows (slots,) in kW.

    `least` is the least its station may hold now; `wakes` sends it again to wake the car.
    """

    car: Car
    old: Row
    new: Row
    planned: Row
    least: Row
    unit: str
    wakes: bool = False


def larger(a: Row, b: Row) -> Row:
    """Return the larger of two rows in each slot."""
    return tuple(max(x, y) for x, y in zip(a, b, strict=True))


def counted_rows(cars: Sequence[Car], site: Site, case: PlanningCase) -> list[Row]:
    """Return what the site has to count for each of the cars of `case`, in its order, (slots,).

    That is its schedule, and never less than its guard; a car that cannot be controlled counts with
    what it draws where its station allows less.
    """
    rows = []
    for car, session in zip(cars, case.sessions, strict=True):
        floor_kw = own_guard_kw(car)
        row = tuple(max(kw, floor_kw) for kw in in_force_kw(car, site, case.edges_at))
        rows.append(row if session.fixed_kw is None else larger(row, session.fixed_kw))
    return rows


def fitting(
    changes: Sequence[Change], in_force: Mapping[str, Row], case: PlanningCase
) -> list[Change]:
    """Return the changes that can be in flight together, reductions first.

    A change fits when every limit of the site is kept in every slot with it counted at the larger
    of old and new. Where a limit is passed already, only what is surely a reduction goes.
    """
    loads = InFlight(case, in_force)
    batch = []
    for change in sorted(changes, key=lambda c: sum(c.new) - sum(c.old)):
        session_id = change.car.session.session_id
        extra = [max(new - old, 0.0) for new, old in zip(change.new, change.old, strict=True)]
        rises = [
            new > was + TOLERANCE_KW for new, was in zip(change.planned, change.least, strict=True)
        ]
        if loads.fits(session_id, extra, rises):
            batch.append(change)
            loads.add(session_id, extra)
    return batch


def as_far_as_it_fits(
    changes: Sequence[Change], in_force: Mapping[str, Row], case: PlanningCase
) -> list[Change]:
    """Return raises cut down, slot by slot, to the room that is really free.

    Rows in force differ from the plan by roundings and small steps that are not worth a message;
    a car must not wait for its whole raise because of a few watts.
    """
    loads = InFlight(case, in_force)
    cut = []
    for change in sorted(changes, key=lambda c: c.car.session.started_at):
        session_id = change.car.session.session_id
        free, is_within = loads.free_kw(session_id), loads.is_within(session_id)
        new = tuple(min(n, o + f) for n, o, f in zip(change.new, change.old, free, strict=True))
        planned = tuple(
            min(p, n) if is_within[k] else min(p, change.least[k])
            for k, (p, n) in enumerate(zip(change.planned, new, strict=True))
        )
        if any(p > o + WORTH_KW for p, o in zip(planned, change.least, strict=True)):
            cut.append(replace(change, new=new, planned=planned))
            loads.add(session_id, [n - o for n, o in zip(new, change.old, strict=True)])
    return cut


def given_back(change: Change) -> float:
    """Return how much a change lowers, summed over the slots."""
    return sum(max(old - new, 0.0) for old, new in zip(change.old, change.new, strict=True))


def reduction(changes: Sequence[Change]) -> Change | None:
    """Return a step that frees room where changes wait for each other, None if none can.

    The car that gives back most in some slots first gets the least of old and new in each, old
    being the least of what its station may hold: that is a reduction whatever is in force.
    """
    giver = max(changes, key=given_back)
    if given_back(giver) <= TOLERANCE_KW:
        return None
    less = tuple(min(o, n) for o, n in zip(giver.old, giver.new, strict=True))
    planned = tuple(min(p, kw) for p, kw in zip(giver.planned, giver.least, strict=True))
    return replace(giver, new=less, planned=planned)
