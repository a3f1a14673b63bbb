"""Sampled values as stations write them (stations.md section 4, rows S67 and S68)."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csms.gateway.codec import Code, Refused
from csms.gateway.meter import first_energy_wh, last_energy_wh, samples
from csms.gateway.values import NO_ZONE, instant, tenth, utc_text, whole_second_text

NOON = "2026-03-02T12:00:00Z"
NOON_AT = datetime(2026, 3, 2, 12, tzinfo=UTC)


def one(*sampled: dict[str, Any], at: str = NOON) -> Any:
    """Return the only sample of one meter value."""
    found = samples([{"timestamp": at, "sampledValue": list(sampled)}])
    assert len(found) == 1
    return found[0]


def test_energy_is_in_wh_whatever_the_unit_says() -> None:
    assert one({"value": "1500"}).energy_wh == 1500
    assert one({"value": "1.5", "unit": "kWh"}).energy_wh == 1500
    assert one({"value": 1.5, "unitOfMeasure": {"unit": "kWh"}}).energy_wh == 1500
    assert one({"value": 15, "unitOfMeasure": {"unit": "Wh", "multiplier": 2}}).energy_wh == 1500
    assert one({"value": "0.30007999999999996", "unit": "kWh", "format": "Raw"}).energy_wh == (
        pytest.approx(300.08)
    )


def test_power_per_phase_without_a_unit_is_added_up_and_flagged() -> None:
    phases = [
        {"value": "3680.0", "measurand": "Power.Active.Import", "phase": f"L{n}"} for n in (1, 2, 3)
    ]
    sample = one(*phases)
    assert sample.power_w == pytest.approx(11040)
    assert sample.flags == ("unit_assumed",)


def test_energy_per_phase_in_kwh_is_added_up_and_flagged() -> None:
    phases = [{"value": "1.0", "unit": "kWh", "phase": f"L{n}-N"} for n in (1, 2, 3)]
    sample = one(*phases)
    assert sample.energy_wh == 3000
    assert sample.flags == ("energy_per_phase",)


def test_a_total_beats_the_sum_of_its_phases() -> None:
    assert one({"value": "10"}, {"value": "4", "phase": "L1"}).energy_wh == 10


def test_currents_stand_in_phase_order_and_the_neutral_is_left_out() -> None:
    values = [
        {"value": str(value), "measurand": "Current.Import", "phase": phase, "unit": "A"}
        for phase, value in (("L3", 3), ("N", 9), ("L1", 1), ("L2", 2))
    ]
    assert one(*values).current_a == (1, 2, 3)
    assert one({"value": "16", "measurand": "Current.Import"}).current_a == (16,)


def test_voltage_is_line_to_neutral() -> None:
    between = [
        {"value": 400, "measurand": "Voltage", "phase": phase}
        for phase in ("L1-L2", "L2-L3", "L3-L1")
    ]
    assert one(*between).voltage_v == pytest.approx(230.9, abs=0.1)
    assert one({"value": "231", "measurand": "Voltage", "phase": "L1-N"}).voltage_v == 231


def test_soc_is_a_share_within_its_bounds() -> None:
    for percent, share in (("80", 0.8), ("101", 1.0), ("-1", 0.0)):
        soc = {"value": percent, "measurand": "SoC", "unit": "Percent", "location": "EV"}
        assert one(soc).soc == pytest.approx(share)


def test_the_outlet_beats_the_inlet_which_is_taken_where_nothing_else_is_said() -> None:
    inlet = {"value": "5000", "location": "Inlet"}
    assert one(inlet).energy_wh == 5000
    assert one(inlet, {"value": "70", "location": "Outlet"}).energy_wh == 70


def test_several_values_of_one_instant_are_one_sample() -> None:
    found = samples(
        [
            {"timestamp": NOON, "sampledValue": [{"value": "1"}]},
            {
                "timestamp": "2026-03-02T13:00:00+01:00",
                "sampledValue": [{"value": "7", "measurand": "Power.Active.Import", "unit": "kW"}],
            },
            {"timestamp": "2026-03-02T12:00:10Z", "sampledValue": [{"value": "2"}]},
        ]
    )
    assert [(s.at.second, s.energy_wh, s.power_w) for s in found] == [(0, 1, 7000), (10, 2, None)]


def test_a_meter_value_without_values_is_no_sample() -> None:
    assert samples([{"timestamp": NOON, "sampledValue": []}]) == ()


def test_measurands_nobody_reads_leave_an_empty_sample() -> None:
    sample = one({"value": "36.6", "measurand": "Temperature", "unit": "Celcius"})
    assert (sample.energy_wh, sample.power_w) == (None, None)


def test_signed_data_is_no_number_and_not_read_as_one() -> None:
    sample = one({"value": "OCMF|{}", "format": "SignedData"}, {"value": "12"})
    assert sample.energy_wh == 12


@pytest.mark.parametrize("value", ["12,5", "", "NaN", "inf", "1_000", "0x10", "1e999", "²", "--1"])
def test_a_value_that_is_no_number_is_refused_as_a_value(value: str) -> None:
    with pytest.raises(Refused) as refused:
        one({"value": value})
    assert refused.value.code is Code.PROPERTY
    assert not value or value not in refused.value.why


def test_a_stop_keeps_what_can_be_read() -> None:
    found = samples(
        [{"timestamp": NOON, "sampledValue": [{"value": "12,5"}, {"value": "12"}]}],
        drop_unreadable=True,
    )
    assert (found[0].energy_wh, found[0].flags) == (12, ("value_unreadable",))


@given(value=st.floats(allow_nan=True, allow_infinity=True), multiplier=st.integers(-99, 99))
def test_no_number_makes_the_reader_raise_anything_but_a_refusal(
    value: float, multiplier: int
) -> None:
    unit = {"unit": "kWh", "multiplier": multiplier}
    for sampled in ({"value": value, "unitOfMeasure": unit}, {"value": repr(value)}):
        with suppress(Refused):
            assert abs(one(sampled).energy_wh) < 1e15


def test_the_register_at_begin_and_end_is_that_of_its_context() -> None:
    found = samples(
        [
            {"timestamp": "2026-03-02T12:00:00Z", "sampledValue": [{"value": "5"}]},
            {
                "timestamp": "2026-03-02T12:00:01Z",
                "sampledValue": [{"value": "6", "context": "Transaction.Begin"}],
            },
            {
                "timestamp": "2026-03-02T12:00:02Z",
                "sampledValue": [{"value": "9", "context": "Transaction.End"}],
            },
            {"timestamp": "2026-03-02T12:00:03Z", "sampledValue": [{"value": "8"}]},
        ]
    )
    assert (first_energy_wh(found), last_energy_wh(found)) == (6, 9)
    assert (first_energy_wh(found[:1]), last_energy_wh(found[3:])) == (5, 8)
    assert first_energy_wh(()) is None


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-02T12:00:00Z",
        "2026-03-02T14:00:00+02:00",
        "2026-03-02T12:00:00",
        "2026-03-02T12:00:00.0000000Z",
        "2026-03-02t12:00:00z",
        "2026-03-02 13:00:00+0100",
    ],
)
def test_s68_instants_are_read_in_each_spelling(text: str) -> None:
    flags: set[str] = set()
    assert instant(text, "timestamp", flags) == NOON_AT
    assert flags == ({NO_ZONE} if text == "2026-03-02T12:00:00" else set())


@pytest.mark.parametrize(
    "text",
    ["1000000", "", "2026-13-01T00:00:00Z", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+23:00"],
)
def test_s68_what_is_no_instant_is_refused_as_a_value(text: str) -> None:
    with pytest.raises(Refused) as refused:
        instant(text, "timestamp")
    assert refused.value.code is Code.PROPERTY


def test_a_leap_second_is_read_as_the_second_before_it() -> None:
    assert instant("2016-12-31T23:59:60Z", "t") == datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)


@given(limit=st.floats(0, 100_000))
def test_a_limit_never_grows_and_has_one_decimal_at_most(limit: float) -> None:
    found = tenth(limit)
    assert found <= limit + 1e-9
    assert limit - found < 0.1 + 1e-9
    assert len(repr(found).partition(".")[2]) <= 1


@given(at=st.datetimes(timezones=st.just(UTC)))
def test_times_we_write_are_utc_with_z_and_read_back(at: datetime) -> None:
    assert utc_text(at).endswith("Z")
    assert whole_second_text(at).endswith("Z")
    assert instant(whole_second_text(at), "t") == at.replace(microsecond=0)
    assert abs((instant(utc_text(at), "t") - at).total_seconds()) < 0.001
