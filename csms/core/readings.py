"""Sampled values one by one, as a message of any version carries them.

A sample is one wide row per instant; what does not fit there (a phase's own power, reactive
energy, a signature) is read from the message itself, which is kept.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_ENERGY = "Energy.Active.Import.Register"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One sampled value. `at` and `value` are the station's own words; `value` in `unit`.

    `multiplier` is the power of ten that the unit still has to be multiplied by. `signed` is the
    signed value, byte for byte: in 2.x the object with its encoding, method and key, in 1.6 the
    text.
    """

    at: str
    context: str
    measurand: str
    phase: str
    location: str
    unit: str
    multiplier: int
    value: float | str
    signed: Mapping[str, Any] | str | None = None


def readings(payload: Mapping[str, Any]) -> Iterator[Reading]:
    """Yield the values of a MeterValues, TransactionEvent or StopTransaction payload, in order."""
    for meter_value in payload.get("meterValue", payload.get("transactionData", ())):
        for sampled in meter_value["sampledValue"]:
            yield _reading(meter_value["timestamp"], sampled)


def _reading(at: str, sampled: Mapping[str, Any]) -> Reading:
    unit = sampled.get("unitOfMeasure", {})
    signed = sampled.get("signedMeterValue")
    if sampled.get("format") == "SignedData":
        signed = sampled["value"]
    return Reading(
        at=at,
        context=sampled.get("context", "Sample.Periodic"),
        measurand=sampled.get("measurand", _ENERGY),
        phase=sampled.get("phase", ""),
        location=sampled.get("location", "Outlet"),
        unit=sampled.get("unit", unit.get("unit", "")),
        multiplier=int(unit.get("multiplier", 0)),
        value=sampled["value"],
        signed=signed,
    )
