"""Laws of batteries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.battery import Battery, Vehicle, ac_draw, acceptance_share, dc_draw, power_w

SOC = st.floats(0, 1)
LIMIT_A = st.floats(0, 80)
VEHICLES = st.builds(
    Vehicle,
    battery_kwh=st.floats(10, 120),
    max_ac_kw=st.floats(2, 22),
    phases=st.sampled_from([1, 2, 3]),
    knee_soc=st.floats(0.3, 1),
    tail_share=st.floats(0.01, 1),
    efficiency=st.floats(0.5, 1),
)


@given(vehicle=VEHICLES, soc=SOC, limit_a=LIMIT_A, phases=st.sampled_from([1, 2, 3]))
def test_a_draw_is_never_above_the_limit_nor_the_vehicles_charger(
    vehicle: Vehicle, soc: float, limit_a: float, phases: int
) -> None:
    draw = ac_draw(Battery(vehicle=vehicle, soc=soc), limit_a=limit_a, phases=phases)
    assert 0 <= draw.current_a <= limit_a
    assert draw.power_w <= vehicle.max_ac_kw * 1000 * (1 + 1e-9)
    assert draw.phases <= min(phases, vehicle.phases)
    assert draw.power_w == pytest.approx(draw.current_a * 230 * draw.phases)


@given(vehicle=VEHICLES, soc=st.floats(0, 0.99), limit_a=st.floats(0, 5.99))
def test_nothing_is_drawn_below_six_amperes(vehicle: Vehicle, soc: float, limit_a: float) -> None:
    assert power_w(Battery(vehicle=vehicle, soc=soc), limit_a=limit_a) == 0


@given(
    vehicle=VEHICLES,
    soc=SOC,
    steps=st.lists(st.tuples(st.floats(0, 32), st.floats(1, 7200)), max_size=12),
)
def test_energy_is_conserved_and_soc_never_falls(
    vehicle: Vehicle, soc: float, steps: list[tuple[float, float]]
) -> None:
    battery, meter_kwh = Battery(vehicle=vehicle, soc=soc), 0.0
    for limit_a, dt_s in steps:
        drawn_w = power_w(battery, limit_a=limit_a, dt_s=dt_s)
        after = battery.charged(drawn_w, dt_s)
        assert after.soc >= battery.soc
        meter_kwh += drawn_w * dt_s / 3_600_000
        battery = after
    assert battery.soc <= max(vehicle.max_soc, soc)
    stored_kwh = (battery.soc - soc) * vehicle.battery_kwh
    assert stored_kwh == pytest.approx(meter_kwh * vehicle.efficiency, abs=1e-6)


@given(vehicle=VEHICLES, low=SOC, high=SOC)
def test_acceptance_never_rises_with_the_state_of_charge(
    vehicle: Vehicle, low: float, high: float
) -> None:
    low, high = sorted((low, high))
    assert acceptance_share(vehicle, high) <= acceptance_share(vehicle, low) <= 1.0


def test_a_dc_curve_is_followed_between_its_points() -> None:
    vehicle = Vehicle(max_dc_kw=150, dc_curve=((0.1, 150.0), (0.5, 100.0), (1.0, 20.0)))
    assert dc_draw(Battery(vehicle=vehicle, soc=0.3), limit_w=1e6).power_w == pytest.approx(125_000)
    assert dc_draw(Battery(vehicle=vehicle, soc=0.3), limit_w=50_000).power_w == 50_000


def test_a_single_phase_car_takes_a_third_of_a_three_phase_offer() -> None:
    car = Battery(vehicle=Vehicle(max_ac_kw=7.4, phases=1), soc=0.2)
    assert power_w(car, limit_a=16, phases=3) == pytest.approx(3680)


@pytest.mark.parametrize("field", ["battery_kwh", "efficiency", "max_soc"])
def test_an_impossible_vehicle_is_refused_by_name(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        Vehicle(**{field: 0})
