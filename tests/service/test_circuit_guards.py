"""Guards on a tree of fuses: given, lowered, refused; and each limit holds whatever is cut off."""

from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest

from csms.core.circuit import Wiring
from csms.core.commands import ClearSchedule, Command, CommandResult, Outcome, SetGuard
from csms.core.model import Evse, Site, Station, StationLimits
from csms.core.wiring import CircuitSetup, PlaceSetup
from csms.planning.planner import plan
from csms.service.cases import Surroundings, planning_case, snapshot
from csms.service.failsafe import FailSafe, fail_safe
from csms.store import stations, wiring
from csms.store.database import Store
from csms.store.statements import Tx
from tests.service.field import SITE, Depot, Field, HandClock


async def depot(
    store: Store,
    *setups: CircuitSetup,
    count: int,
    limit_kw: float = 1000.0,
    share: float = 1.0,
    guard_kw: float | None = None,
) -> Depot:
    """Build a depot on a tree; its stations have `guard_kw`, None for not yet guarded."""
    field = Field(guards_kw={f"c{i:02}": guard_kw for i in range(count)})  # type: ignore[misc]
    made = Depot(store, field, HandClock())
    await made.build(limit_kw=limit_kw)

    def work(tx: Tx) -> None:
        stations.upsert_site(tx, Site(site_id=SITE, limit_kw=limit_kw, guard_share=share))
        for setup in setups:
            wiring.put_circuit(tx, SITE, setup)

    await store.write(work)
    return made


async def shown(place: Depot) -> FailSafe:
    now = place.clock.now()
    known = await place.store.read(
        lambda tx: snapshot(tx, SITE, now=now, horizon_h=6.0, carbon_id="")
    )
    case = planning_case(known, Surroundings(), now=now, horizon_h=6.0, slot_s=900)
    return fail_safe(known, case)


def given_a(place: Depot) -> dict[str, float]:
    """Return the guard that each station was last given, A per phase."""
    return {c.station_id: c.schedule.periods[0].limit for c in place.field.guarded if c.evse_id}


async def settle(place: Depot) -> None:
    for station_id in place.field.guards_kw:
        await place.devices.settle(station_id, is_new=True)


async def test_one_of_51_stations_gets_nothing_where_51_times_6_a_pass_the_fuse(
    store: Store,
) -> None:
    # planner.md scenario 16: 306 A of fail-safe currents on 300 A.
    place = await depot(
        store, CircuitSetup(circuit_id="f", limit_a=(300.0,), evses=("*",)), count=51
    )
    await settle(place)
    currents = sorted(given_a(place).values())
    assert currents == [0.0] + [6.0] * 50
    found = await shown(place)
    assert found.is_kept
    assert len(found.without_guard) == 1
    by_limit = {(r.circuit_id, r.limit): r for r in found.limits}
    assert by_limit["f", "L1"].guards <= 300.0 + 1e-9


async def test_guards_fall_when_a_circuit_is_lowered_and_when_a_station_joins(
    store: Store,
) -> None:
    hall = CircuitSetup(circuit_id="hall", limit_a=(40.0,), evses=("c*",))
    place = await depot(store, hall, count=3)
    await settle(place)
    assert sorted(given_a(place).values()) == [13.0, 13.0, 14.0]
    await store.write(lambda tx: wiring.put_circuit(tx, SITE, replace(hall, limit_a=(20.0,))))
    assert not (await shown(place)).is_kept
    assert await place.devices.fit_guards(SITE)
    assert sorted(given_a(place).values()) == [6.0, 7.0, 7.0]
    assert (await shown(place)).is_kept

    def join(tx: Tx) -> None:
        stations.register_station(tx, Station(station_id="c03", site_id=SITE))
        stations.upsert_evse(tx, Evse(station_id="c03", evse_id=1, max_kw=22.08))

    await store.write(join)
    await place.link("c03")
    # A newcomer counts with all it can deliver until it took a guard.
    assert not (await shown(place)).is_kept
    await place.devices.settle("c03", is_new=True)
    await place.devices.fit_guards(SITE)
    assert sorted(given_a(place).values()) == [0.0, 6.0, 7.0, 7.0]
    assert (await shown(place)).is_kept


class Stubborn(Field):
    """Stations of which one takes no new guard, and forgets the old where that is cleared."""

    outcome = Outcome.NO_ANSWER

    async def execute(self, command: Command) -> CommandResult:
        """Take no guard for c00."""
        if isinstance(command, ClearSchedule):
            self.guards_kw[command.station_id] = None
            return CommandResult(outcome=Outcome.ACCEPTED)
        if isinstance(command, SetGuard) and command.station_id == "c00":
            return CommandResult(outcome=self.outcome, status="Rejected")
        return await super().execute(command)


async def test_a_guard_that_was_cleared_and_not_set_again_counts_in_full(store: Store) -> None:
    hall = CircuitSetup(circuit_id="hall", limit_a=(60.0,), evses=("*",))
    place = await depot(store, hall, count=2, guard_kw=30 * 0.69)
    place.field.__class__ = Stubborn
    place.field.outcome = Outcome.REJECTED  # type: ignore[attr-defined]
    await store.write(lambda tx: wiring.put_circuit(tx, SITE, replace(hall, limit_a=(50.0,))))
    await place.devices.fit_guards(SITE)
    assert place.field.guards_kw["c00"] is None
    found = await shown(place)
    assert {e.station_id: e.guard_a for e in found.evses} == {"c00": 32.0, "c01": 25.0}
    assert not found.is_kept


async def test_a_guard_that_a_station_does_not_lower_is_shown_and_planned_around(
    store: Store,
) -> None:
    hall = CircuitSetup(circuit_id="hall", limit_a=(40.0,), evses=("*",))
    place = await depot(store, hall, count=2, guard_kw=20 * 0.69)
    place.field.__class__ = Stubborn
    await store.write(lambda tx: wiring.put_circuit(tx, SITE, replace(hall, limit_a=(30.0,))))
    await place.devices.fit_guards(SITE)
    found = await shown(place)
    guards = {e.station_id: e.guard_a for e in found.evses}
    assert guards["c00"] == pytest.approx(20.0)
    assert guards["c01"] == pytest.approx(15.0)
    assert not found.is_kept
    # What it will not give up the plan leaves to it: nobody else gets it.
    await place.arrive("c01", need_kwh=50.0, leaves_h=2.0)
    await place.plan_and_push()
    for at in (place.clock.now(), place.clock.now() + timedelta(hours=1)):
        assert place.field.station_kw("c01", at) <= 15 * 0.69 + 1e-6


TREE = (
    CircuitSetup(circuit_id="main", limit_a=(50.0,), load_a=(4.0, 0.0, 0.0)),
    CircuitSetup(circuit_id="a", parent_id="main", limit_a=(32.0,), evses=("c00", "c01")),
    CircuitSetup(circuit_id="b", parent_id="main", limit_a=(32.0,), evses=("c02", "c03")),
)
LEFT_A = {"main": (range(4), 46.0), "a": (range(2), 32.0), "b": (range(2, 4), 32.0)}


@pytest.mark.parametrize("away", list(product((False, True), repeat=4)), ids=str)
async def test_whichever_stations_are_cut_off_each_fuse_of_the_tree_holds_from_then_on(
    store: Store, away: tuple[bool, ...]
) -> None:
    place = await depot(store, *TREE, count=4, limit_kw=100.0, share=0.5)
    await settle(place)
    await place.devices.fit_guards(SITE)
    for number in range(3):
        await place.arrive(f"c{number:02}", need_kwh=15.0 + 5 * number, leaves_h=1.5 + number)
    await place.plan_and_push()
    place.clock.advance(minutes=30)
    for number, is_away in enumerate(away):
        if is_away:
            await place.leave_link(f"c{number:02}")
            place.field.deaf.add(f"c{number:02}")
    await place.arrive("c03", need_kwh=20.0, leaves_h=2.0)
    await place.plan_and_push()
    # Now the others are cut off as well, a car at each, for as long as any schedule holds.
    now = place.clock.now()
    for minutes in range(0, 14 * 60, 5):
        at = now + timedelta(minutes=minutes)
        for circuit_id, (stations_of, left_a) in LEFT_A.items():
            drawn_a = sum(place.field.station_kw(f"c{i:02}", at) / 0.69 for i in stations_of)
            assert drawn_a <= left_a + 1e-6, (circuit_id, at)
    assert (await shown(place)).is_kept


async def test_phases_told_by_a_station_and_overruled_by_an_operator_reach_the_case(
    store: Store,
) -> None:
    hall = CircuitSetup(circuit_id="hall", limit_a=(32.0,), evses=("c00",))
    place = await depot(store, hall, count=1, guard_kw=4.14)

    def one_phase(tx: Tx) -> None:
        evse = stations.get_evse(tx, "c00", 1)
        assert evse is not None
        stations.upsert_evse(tx, replace(evse, phases=1, max_kw=7.36, guard_kw=1.38))
        stations.set_limits(tx, "c00", StationLimits(phase_rotation="1.STR"))

    await store.write(one_phase)
    await place.arrive("c00")

    async def phases() -> tuple[int, ...]:
        now = place.clock.now()
        known = await store.read(
            lambda tx: snapshot(tx, SITE, now=now, horizon_h=6.0, carbon_id="")
        )
        assert known.wiring != Wiring()
        case = planning_case(known, Surroundings(), now=now, horizon_h=6.0, slot_s=900)
        made = plan(case)
        assert made.sessions[0].power_kw[0] <= 7.36
        return case.sessions[0].phases_used

    assert await phases() == (2,)
    said = PlaceSetup(station_id="c00", evse_id=1, phase_rotation="T")
    await store.write(lambda tx: wiring.put_place(tx, said))
    assert await phases() == (3,)
    nobody = replace(said, phase_rotation="Unknown")
    await store.write(lambda tx: wiring.put_place(tx, nobody))
    assert await phases() == ()
