"""The station without a wire: power, states, exactness."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.battery import Vehicle
from simulators.power import energy_wh, peak_w, seconds_above, steps
from simulators.profiles import Period, Profile, Purpose
from simulators.station import EvseSpec, NotPossible, State, Station

START = datetime(2026, 3, 1, 8, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def station(evses: int = 1, **spec: object) -> Station:
    specs = [EvseSpec(evse_id=i + 1, **spec) for i in range(evses)]  # type: ignore[arg-type]
    return Station(specs, now=START)


def profile(*periods: tuple[float, float], **fields: object) -> Profile:
    base: dict[str, object] = {
        "profile_id": 1,
        "purpose": Purpose.TX,
        "evse_id": 1,
        "start_at": START,
        "periods": tuple(Period(start_s=s, limit=a) for s, a in periods),
    }
    return Profile(**(base | fields))  # type: ignore[arg-type]


def test_a_schedule_acts_at_its_instants_however_late_the_station_is_asked() -> None:
    s = station()
    s.plug_in(1, Vehicle(battery_kwh=80), soc=0.1, now=START)
    s.begin(1, "T", "", now=START)
    assert s.install(profile((0, 10), (100, 0), (250, 6)), now=START) is None
    s.advance(after(400))
    course = steps(s.evse(1).segments)
    assert [(x.start_at, x.until, round(x.power_w)) for x in course] == [
        (START, after(100), 6900),
        (after(100), after(250), 0),
        (after(250), after(400), 4140),
    ]
    states = [(c.at, c.state) for c in s.taken_changes()]
    assert states[-3:] == [
        (START, State.CHARGING),
        (after(100), State.SUSPENDED_EVSE),
        (after(250), State.CHARGING),
    ]
    assert seconds_above(course, 6000) == 100
    assert peak_w(course) == pytest.approx(6900)


@settings(max_examples=30, deadline=None)
@given(
    cuts=st.lists(st.floats(1, 40_000), max_size=10),
    limits=st.lists(st.integers(0, 20), min_size=1, max_size=5),
    soc=st.floats(0, 1),
)
def test_the_register_is_the_energy_under_the_power_and_what_the_battery_got(
    cuts: list[float], limits: list[int], soc: float
) -> None:
    s = station()
    vehicle = Vehicle(battery_kwh=30)
    s.plug_in(1, vehicle, soc=soc, now=START)
    s.begin(1, "T", "", now=START)
    s.install(profile(*((i * 5000.0, float(a)) for i, a in enumerate(limits))), now=START)
    for cut in sorted(cuts):
        s.advance(after(cut))
        assert s.power_w <= 11_000 + 1e-6
    s.advance(after(50_000))
    evse = s.evse(1)
    assert evse.battery is not None
    assert evse.register_wh == pytest.approx(energy_wh(steps(evse.segments)), abs=1e-3)
    stored_wh = (evse.battery.soc - soc) * 30_000
    assert stored_wh == pytest.approx(evse.register_wh * vehicle.efficiency, abs=0.1)


def test_a_full_vehicle_suspends_at_the_instant_it_is_full() -> None:
    s = station()
    car = Vehicle(battery_kwh=10, efficiency=1.0, knee_soc=1.0)
    s.plug_in(1, car, soc=0.9, now=START)
    s.begin(1, "T", "", now=START)
    assert s.next_change_at is not None
    full_at = s.next_change_at
    assert (full_at - START).total_seconds() == pytest.approx(1000 / 11_000 * 3600, abs=0.01)
    s.advance(after(3600))
    assert s.evse(1).state is State.SUSPENDED_EV
    assert s.taken_changes()[-1].at == full_at


def test_a_sleepy_vehicle_takes_its_time_after_a_pause_and_a_stubborn_one_stays_away() -> None:
    for car, powers in (
        (Vehicle(wake_s=30), (0, 11_000)),
        (Vehicle(resumes=False), (0, 0)),
    ):
        s = station()
        s.plug_in(1, car, soc=0.1, now=START)
        s.begin(1, "T", "", now=START)
        s.install(profile((0, 16), (100, 0), (200, 16)), now=START)
        for seconds, power_w in zip((210, 240), powers, strict=True):
            s.advance(after(seconds))
            assert s.power_w == pytest.approx(power_w, abs=50)


def test_evses_share_the_stations_maximum() -> None:
    s = station(2)
    for evse in (1, 2):
        s.plug_in(evse, Vehicle(), soc=0.1, now=START)
    limit = profile((0, 20), purpose=Purpose.STATION_MAX, evse_id=0)
    s.install(limit, now=START)
    s.begin(1, "T1", "", now=START)
    s.begin(2, "T2", "", now=after(60))
    s.end(1, reason="Local", now=after(120))
    s.advance(after(180))
    course = steps(x for e in s.evses.values() for x in e.segments)
    assert [round(x.power_w) for x in course] == [11_000, 13_800, 11_000]


def test_a_dc_evse_obeys_watts() -> None:
    s = station(max_kw=50, current_type="DC")
    s.plug_in(1, Vehicle(max_dc_kw=120), soc=0.1, now=START)
    s.begin(1, "T", "", now=START)
    assert s.power_w == 50_000
    s.install(profile((0, 20_000), unit="W"), now=START)
    assert s.power_w == 20_000


def test_what_does_not_fit_the_state_is_refused() -> None:
    s = station()
    with pytest.raises(NotPossible, match="no vehicle"):
        s.begin(1, "T", "", now=START)
    s.plug_in(1, Vehicle(), soc=0.1, now=START)
    with pytest.raises(NotPossible, match="already"):
        s.plug_in(1, Vehicle(), soc=0.1, now=START)
    with pytest.raises(NotPossible, match="there are"):
        s.plug_in(2, Vehicle(), soc=0.1, now=START)
    s.begin(1, "T", "", now=START)
    with pytest.raises(NotPossible, match="nothing to unplug"):
        s.unplug(1, now=START)
    s.end(1, reason="Local", now=START)
    assert s.evse(1).state is State.FINISHING
    s.unplug(1, now=START)
    assert s.evse(1).state is State.AVAILABLE
