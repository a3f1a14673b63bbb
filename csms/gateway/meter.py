"""PURE: sampled values of either version -> one MeterSample per instant.

Meters say the same thing in many ways: in kWh or Wh, as a total or per phase, with a unit or
without. A total beats the sum of its phases, and a value at the outlet one measured elsewhere.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from csms.core.model import MeterSample, made
from csms.gateway.codec import Code, Refused
from csms.gateway.values import instant

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_LINE_TO_LINE = frozenset({"L1-L2", "L2-L3", "L3-L1"})
_SQRT_3 = 3**0.5
_MOST = 1e15
"""No meter counts this far; a double still holds it to the Wh."""

ENERGY = "Energy.Active.Import.Register"
POWER = "Power.Active.Import"
CURRENT = "Current.Import"
VOLTAGE = "Voltage"
SOC = "SoC"
POWER_OFFERED = "Power.Offered"
CURRENT_OFFERED = "Current.Offered"
_READ = frozenset({ENERGY, POWER, CURRENT, VOLTAGE, SOC, POWER_OFFERED, CURRENT_OFFERED})

_THOUSANDS = frozenset({"kWh", "kW", "kA", "kV", "kVA"})
_BEGIN, _END = "Transaction.Begin", "Transaction.End"


class _Instant:
    """What was said for one instant: measurand -> phase ("" for the total) -> value."""

    __slots__ = ("at", "context", "elsewhere", "flags", "values")

    def __init__(self, at: datetime, flags: set[str]) -> None:
        self.at = at
        self.context = ""
        self.flags = flags
        self.values: dict[str, dict[str, float]] = {}
        self.elsewhere: dict[str, dict[str, float]] = {}

    def sample(self) -> MeterSample:
        said = {**self.elsewhere, **self.values} if self.elsewhere else self.values
        found: dict[str, Any] = {"at": self.at, "context": self.context or "Sample.Periodic"}
        # Most messages say four of seven things: no step for what was not said.
        if ENERGY in said:
            found["energy_wh"] = energy_wh = _total(said[ENERGY])
            if energy_wh is not None and "" not in said[ENERGY]:
                self.flags.add("energy_per_phase")
        if POWER in said:
            found["power_w"] = _total(said[POWER])
        if CURRENT in said:
            found["current_a"] = _currents(said[CURRENT])
        if VOLTAGE in said:
            found["voltage_v"] = _voltage(said[VOLTAGE])
        if SOC in said:
            soc = _total(said[SOC])
            found["soc"] = None if soc is None else min(max(soc / 100.0, 0.0), 1.0)
        if POWER_OFFERED in said:
            found["power_offered_w"] = _total(said[POWER_OFFERED])
        if CURRENT_OFFERED in said:
            # Offered per phase, as a limit is: the phases do not add up.
            found["current_offered_a"] = max(said[CURRENT_OFFERED].values())
        if self.flags:
            found["flags"] = tuple(sorted(self.flags))
        return made(MeterSample, found)


def _total(phases: Mapping[str, float]) -> float | None:
    if "" in phases:
        return phases[""]
    lines = _per_line(phases)
    return sum(lines.values()) if lines else None


def _currents(phases: Mapping[str, float]) -> tuple[float, ...]:
    if len(phases) == 1 and "" in phases:
        return (phases[""],)
    lines = _per_line(phases)
    if lines:
        return tuple(lines[line] for line in sorted(lines))
    return (phases[""],) if "" in phases else ()


def _per_line(phases: Mapping[str, float]) -> dict[str, float]:
    """Return the value of each line conductor by "L1".."L3", however the phases are written."""
    return {
        phase[:2]: value
        for phase, value in phases.items()
        if phase.startswith("L") and phase not in _LINE_TO_LINE
    }


def _voltage(phases: Mapping[str, float]) -> float | None:
    if "" in phases:
        return phases[""]
    lines = _per_line(phases)
    if lines:
        return sum(lines.values()) / len(lines)
    between = [value for phase, value in phases.items() if phase in _LINE_TO_LINE]
    return sum(between) / len(between) / _SQRT_3 if between else None


def samples(
    meter_values: Iterable[Mapping[str, Any]], *, drop_unreadable: bool = False
) -> tuple[MeterSample, ...]:
    """Return one sample for each instant in `meter_values`, in the order given.

    Raises Refused for a value that is no number ("12,5"), unless `drop_unreadable` says that
    losing one value is better than losing the message it rides on; the sample is then flagged.
    """
    found: dict[datetime, _Instant] = {}
    for meter_value in meter_values:
        flags: set[str] = set()
        at = instant(meter_value["timestamp"], "meter value timestamp", flags)
        sampled = meter_value["sampledValue"]
        if not sampled:
            continue
        entry = found.get(at)
        if entry is None:
            entry = found[at] = _Instant(at, flags)
        for value in sampled:
            try:
                _read(entry, value)
            except Refused:
                if not drop_unreadable:
                    raise
                entry.flags.add("value_unreadable")
    return tuple(entry.sample() for entry in found.values())


def _read(entry: _Instant, sampled: Mapping[str, Any]) -> None:
    context = sampled.get("context")
    if context and context != entry.context and (not entry.context or context in (_BEGIN, _END)):
        entry.context = context
    if sampled.get("format") == "SignedData":
        return
    value = sampled["value"]
    if isinstance(value, str):
        value, unit = _number(value), sampled.get("unit", "")
    else:
        value, unit = float(value), ""
        of_measure = sampled.get("unitOfMeasure")
        if of_measure is not None:
            unit = of_measure.get("unit", "")
            if multiplier := of_measure.get("multiplier", 0):
                value = _scaled(value, multiplier)
    measurand = sampled.get("measurand", ENERGY)
    if measurand not in _READ:
        return
    if unit in _THOUSANDS:
        value *= 1000.0
    elif not unit and measurand in (POWER, POWER_OFFERED):
        # Energy has a default unit by the specification, power has none.
        entry.flags.add("unit_assumed")
    if not -_MOST < value < _MOST:
        raise Refused(Code.PROPERTY, "sampled value is out of range")
    is_outlet = sampled.get("location", "Outlet") == "Outlet" or measurand == SOC
    said = entry.values if is_outlet else entry.elsewhere
    phase = sampled.get("phase", "")
    if measurand in said:
        said[measurand][phase] = value
    else:
        said[measurand] = {phase: value}


def _number(text: str) -> float:
    """Return the number a 1.6 station wrote."""
    text = text.strip()
    if not _NUMBER.fullmatch(text) or len(text) > 40:
        raise Refused(Code.PROPERTY, "sampled value is no number; right would be 12.5")
    return float(text)


def _scaled(value: float, multiplier: float) -> float:
    if not -24 <= multiplier <= 24:
        raise Refused(Code.PROPERTY, "multiplier is out of range; it must be -24..24")
    return value * 10.0 ** int(multiplier)


def all_flags(found: Sequence[MeterSample], flags: Collection[str] = ()) -> tuple[str, ...]:
    """Return `flags` and those of the samples, each once, sorted."""
    if not flags and not any([sample.flags for sample in found]):
        return ()
    every = {*flags}
    for sample in found:
        every.update(sample.flags)
    return tuple(sorted(every))


def first_energy_wh(found: Iterable[MeterSample]) -> float | None:
    """Return the register at the beginning of a transaction."""
    readings = [s for s in found if s.energy_wh is not None]
    begun = [s for s in readings if s.context == _BEGIN]
    chosen = begun or readings
    return chosen[0].energy_wh if chosen else None


def last_energy_wh(found: Iterable[MeterSample]) -> float | None:
    """Return the register at the end of a transaction."""
    readings = [s for s in found if s.energy_wh is not None]
    ended = [s for s in readings if s.context == _END]
    chosen = ended or readings
    return chosen[-1].energy_wh if chosen else None
