"""A car that speaks ISO 15118 through a 2.x station: it tells its needs and proposes a schedule."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from simulators.client import Payload
from simulators.clock import iso
from simulators.simulated import SimulatedStation

MODES = {1: "AC_single_phase", 2: "AC_two_phase", 3: "AC_three_phase"}


def ac_needs(
    *,
    energy_wh: int,
    departs_at: datetime | None = None,
    phases: int = 3,
    min_a: int = 6,
    max_a: int = 16,
) -> Payload:
    """Return the needs of a car that charges with alternating current."""
    needs: Payload = {
        "requestedEnergyTransfer": MODES[phases],
        "acChargingParameters": {
            "energyAmount": energy_wh,
            "evMinCurrent": min_a,
            "evMaxCurrent": max_a,
            "evMaxVoltage": 400,
        },
    }
    return needs | ({} if departs_at is None else {"departureTime": iso(departs_at)})


def dc_needs(
    *, energy_wh: int, departs_at: datetime | None = None, soc: int, max_w: int, battery_wh: int
) -> Payload:
    """Return the needs of a car that charges with direct current."""
    needs: Payload = {
        "requestedEnergyTransfer": "DC",
        "dcChargingParameters": {
            "evMaxCurrent": 250,
            "evMaxVoltage": 450,
            "energyAmount": energy_wh,
            "evMaxPower": max_w,
            "stateOfCharge": soc,
            "evEnergyCapacity": battery_wh,
        },
    }
    return needs | ({} if departs_at is None else {"departureTime": iso(departs_at)})


async def tell_needs(
    station: SimulatedStation,
    needs: Mapping[str, Any],
    *,
    evse_id: int = 1,
    max_tuples: int | None = None,
) -> str:
    """Send NotifyEVChargingNeeds and return the status of the answer."""
    payload: Payload = {"evseId": evse_id, "chargingNeeds": dict(needs)}
    if max_tuples is not None:
        payload["maxScheduleTuples"] = max_tuples
    answer = await station.call("NotifyEVChargingNeeds", payload)
    return str(answer["status"])


async def propose(
    station: SimulatedStation, profile: Mapping[str, Any], *, evse_id: int = 1, share: float = 1.0
) -> str:
    """Send NotifyEVChargingSchedule with `share` of what a profile allows; return the status."""
    (schedule,) = profile["chargingSchedule"]
    now = station.now()
    start = datetime.fromisoformat(schedule["startSchedule"])
    since_s = max(int((now - start) / timedelta(seconds=1)), 0)
    periods = [dict(p) for p in schedule["chargingSchedulePeriod"]]
    begun = [p for p in periods if p["startPeriod"] <= since_s][-1]
    left = [{**begun, "startPeriod": 0}]
    left += [
        {**p, "startPeriod": p["startPeriod"] - since_s}
        for p in periods
        if p["startPeriod"] > since_s
    ]
    for period in left:
        period["limit"] = round(period["limit"] * share, 1)
    answer = await station.call(
        "NotifyEVChargingSchedule",
        {
            "timeBase": iso(now),
            "evseId": evse_id,
            "chargingSchedule": {
                "id": 1,
                "chargingRateUnit": schedule["chargingRateUnit"],
                "chargingSchedulePeriod": left,
            },
        },
    )
    return str(answer["status"])
