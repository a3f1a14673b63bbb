"""The tail of a battery: the closed form agrees with charging step by step."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from csms.planning.taper import charging_time, power_share


@given(
    soc=st.floats(0.0, 0.99),
    share=st.floats(0.01, 1.0),
    battery_kwh=st.floats(10, 120),
    max_kw=st.floats(2, 22),
    efficiency=st.floats(0.8, 1.0),
)
def test_the_time_is_what_charging_step_by_step_takes(
    soc: float, share: float, battery_kwh: float, max_kw: float, efficiency: float
) -> None:
    energy_kwh = share * (1.0 - soc) * battery_kwh / efficiency
    steps, now, hours = 2000, soc, 0.0
    for _ in range(steps):
        middle = now + 0.5 * energy_kwh / steps * efficiency / battery_kwh
        hours += energy_kwh / steps / (max_kw * power_share(middle))
        now += energy_kwh / steps * efficiency / battery_kwh
    found = charging_time(
        energy_kwh, soc=soc, battery_kwh=battery_kwh, efficiency=efficiency, max_kw=max_kw
    )
    assert abs(found / timedelta(hours=1) - hours) <= 0.002 * hours + 1e-5


def test_below_the_knee_nothing_is_lost() -> None:
    took = charging_time(10.0, soc=0.2, battery_kwh=60.0, efficiency=1.0, max_kw=10.0)
    assert took == timedelta(hours=1)


def test_nothing_to_charge_takes_no_time() -> None:
    assert charging_time(0, soc=1, battery_kwh=60, efficiency=0.9, max_kw=11) == timedelta(0)
