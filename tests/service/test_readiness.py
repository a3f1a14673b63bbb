"""The readiness of the cars of a plan is kept, shown, and made of the site's own past."""

from datetime import timedelta

from csms.core.session import closed_administratively
from csms.planning.planner import plan
from csms.service.background import Background
from csms.service.cases import Surroundings, planning_case, snapshot
from csms.service.live import site_now
from csms.service.readiness import ReadinessDesk
from csms.store import rivals, sessions
from csms.store.database import Store
from tests.service.field import NOW, SITE, Depot, Field, HandClock


async def test_what_a_plan_promises_is_kept_and_shown(store: Store) -> None:
    place = Depot(store, Field(guards_kw={f"c{i}": 4.14 for i in range(2)}), HandClock())
    await place.build(limit_kw=60.0)
    easy = await place.arrive("c0", need_kwh=2.0, leaves_h=10.0)
    hopeless = await place.arrive("c1", need_kwh=300.0, leaves_h=1.0)
    known = await store.read(
        lambda tx: snapshot(tx, SITE, now=NOW, horizon_h=12.0, carbon_id="default")
    )
    case = planning_case(known, Surroundings(), now=NOW, horizon_h=12.0, slot_s=900)
    background = Background()
    desk = ReadinessDesk(
        store=store, clock=place.clock, background=background, arrivals=lambda *_: ()
    )
    found = {r.session_id: r for r in await desk.look(known.cars, case, plan(case))}
    assert found[hopeless.session_id].met_share == 0.0
    assert found[easy.session_id].met_share > 0.5
    assert await store.read(lambda tx: rivals.readiness_of(tx, [easy.session_id])) == {
        easy.session_id: found[easy.session_id]
    }
    now = await site_now(store, SITE, now=NOW)
    shown = {s.session_id: s.met_share for s in now.sessions}
    assert shown == {i: r.met_share for i, r in found.items()}


async def test_a_site_whose_drivers_leave_early_promises_less(store: Store) -> None:
    place = Depot(store, Field(guards_kw={"c0": 4.14}), HandClock())
    await place.build(limit_kw=60.0)
    for _ in range(20):
        early = await place.arrive("c0", need_kwh=2.0, leaves_h=8.0)
        left = closed_administratively(early, now=NOW + timedelta(hours=1), reason="left")
        await store.write(lambda tx, left=left: sessions.save(tx, left))
    await place.arrive("c0", need_kwh=40.0, leaves_h=8.0)
    later = NOW + timedelta(hours=1, minutes=5)
    known = await store.read(
        lambda tx: snapshot(tx, SITE, now=later, horizon_h=12.0, carbon_id="default")
    )
    case = planning_case(known, Surroundings(), now=later, horizon_h=12.0, slot_s=900)
    desk = ReadinessDesk(
        store=store, clock=place.clock, background=Background(), arrivals=lambda *_: ()
    )
    (only,) = await desk.look(known.cars, case, plan(case))
    assert only.met_share < 0.3
