"""Grid emissions: none, fixed, recorded, or from a provider over HTTP; kg CO2 per kWh.

Like prices, slots come whole and the same whenever they are asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from csms.core.model import CarbonIntensity
from csms.providers.asking import ask
from csms.providers.fetch import Fetcher
from csms.providers.options import HttpAccess, Options, Recording
from csms.providers.slots import (
    MAX_KG_PER_KWH,
    Reader,
    Slot,
    averaged,
    converted,
    holding,
    whole_hours,
)
from csms.providers.tables import Table

FIVE_MINUTES: Final = timedelta(minutes=5)
HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CarbonFormat:
    """A named format: its parser (to kg/kWh), its address, and whether it needs an area."""

    parse: Callable[[object, str, Reader], list[Slot]]
    url: str
    needs_area: bool = False


def energinet_co2(payload: object, area: str, read: Reader) -> list[Slot]:
    """Read CO2EmisProg: g/kWh in five-minute steps, averaged into quarter hours."""
    slots = []
    records = read.members(payload, "answer").get("records")
    for where, record in read.of_area(records, area):
        at = read.instant(record.get("Minutes5UTC"), f"{where}.Minutes5UTC", is_utc=True)
        if record.get("CO2Emission") is None and "CO2Emission" in record:
            continue
        value = read.number(record.get("CO2Emission"), f"{where}.CO2Emission") / 1000
        slots.append(Slot(starts_at=at, until=at + FIVE_MINUTES, value=value))
    # In order first: a value given twice must not weigh twice.
    return averaged(read.ordered(slots, low=0, high=MAX_KG_PER_KWH, unit="kg/kWh"))


def gb_carbon_intensity(payload: object, area: str, read: Reader) -> list[Slot]:
    """Read the GB Carbon Intensity API: half hours, g/kWh; what was measured wins."""
    slots = []
    for where, entry in read.objects(read.members(payload, "answer").get("data"), "data"):
        intensity = read.members(entry.get("intensity"), f"{where}.intensity")
        name = "forecast" if intensity.get("actual") is None else "actual"
        if intensity.get(name) is None:
            continue
        slots.append(
            Slot(
                starts_at=read.instant(entry.get("from"), f"{where}.from"),
                until=read.instant(entry.get("to"), f"{where}.to"),
                value=read.number(intensity[name], f"{where}.intensity.{name}") / 1000,
            )
        )
    return slots


def electricity_maps(payload: object, area: str, read: Reader) -> list[Slot]:
    """Read the Electricity Maps forecast: g/kWh of one zone."""
    answer = read.members(payload, "answer")
    if area and answer.get("zone") != area:
        raise read.error("zone", answer.get("zone"), f"{area!r}")
    points = [
        (
            read.instant(entry.get("datetime"), f"{where}.datetime"),
            read.number(entry.get("carbonIntensity"), f"{where}.carbonIntensity") / 1000,
        )
        for where, entry in read.objects(answer.get("forecast"), "forecast")
        if entry.get("carbonIntensity", 0) is not None
    ]
    return read.with_ends(points, usual=HOUR, where="forecast")


CARBON_FORMATS: Final[Mapping[str, CarbonFormat]] = {
    "energinet": CarbonFormat(
        parse=energinet_co2,
        url="https://api.energidataservice.dk/dataset/CO2EmisProg?start={start_minute}"
        "&end={until_minute}&timezone=UTC&limit=0&filter=%7B%22PriceArea%22%3A%5B%22{area}%22%5D%7D",
        needs_area=True,
    ),
    "gb_carbon_intensity": CarbonFormat(
        parse=gb_carbon_intensity,
        url="https://api.carbonintensity.org.uk/intensity/{start_minute}Z/{until_minute}Z",
    ),
    "electricity_maps": CarbonFormat(
        parse=electricity_maps,
        url="https://api.electricitymaps.com/v3/carbon-intensity/forecast?zone={area}",
        needs_area=True,
    ),
}


class NoOptions(Options):
    """Nothing to configure."""


class FixedCarbonOptions(Options):
    """One intensity at all times."""

    kg_per_kwh: Annotated[float, Field(ge=0, le=MAX_KG_PER_KWH, allow_inf_nan=False)]


class FileCarbonOptions(Recording):
    """Recorded intensities."""

    unit: Literal["g_per_kwh", "kg_per_kwh"] = "g_per_kwh"


class HttpCarbonOptions(HttpAccess):
    """A provider; `format` says whose answers are read."""

    format: str

    @field_validator("format")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in CARBON_FORMATS:
            raise ValueError(f"permitted: {', '.join(CARBON_FORMATS)}")
        return name

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if CARBON_FORMATS[self.format].needs_area and not self.area:
            raise ValueError(f"format {self.format} needs area")
        return self


class NoCarbon:
    """Nothing is known of the grid's emissions."""

    async def intensity(self, start: datetime, until: datetime) -> Sequence[CarbonIntensity]:
        """Return nothing."""
        return []


class FixedCarbon:
    """One intensity at all times."""

    def __init__(self, options: FixedCarbonOptions) -> None:
        self.options = options

    async def intensity(self, start: datetime, until: datetime) -> Sequence[CarbonIntensity]:
        """Return the intensity of the hours of [start, until)."""
        value = self.options.kg_per_kwh
        return [
            CarbonIntensity(starts_at=starts_at, until=ends_at, kg_per_kwh=value)
            for starts_at, ends_at in whole_hours(start, until)
        ]


class RecordedCarbon:
    """Intensities from a file."""

    def __init__(self, options: FileCarbonOptions, *, provider: str) -> None:
        self.options = options
        self._read = Reader(provider)
        self._table = Table(options, provider=provider)

    async def intensity(self, start: datetime, until: datetime) -> Sequence[CarbonIntensity]:
        """Return the recorded intensities of [start, until)."""
        per_unit = 1000.0 if self.options.unit == "g_per_kwh" else 1.0
        slots = converted(await self._table.slots(start, until), lambda value: value / per_unit)
        return _intensities(self._read, slots, start, until, is_open=True)


class HttpCarbon:
    """Intensities from a provider."""

    def __init__(self, options: HttpCarbonOptions, *, provider: str, fetcher: Fetcher) -> None:
        self.options = options
        self._format = CARBON_FORMATS[options.format]
        self._read = Reader(f"{provider} ({options.format})")
        self._fetcher = fetcher

    async def intensity(self, start: datetime, until: datetime) -> Sequence[CarbonIntensity]:
        """Return what is known of [start, until); ProviderError names the field at fault."""
        options = self.options
        answers = await ask(
            options,
            self._format.url,
            start,
            until,
            provider=self._read.provider,
            fetcher=self._fetcher,
        )
        slots = [
            slot
            for answer in answers
            for slot in self._format.parse(answer, options.area, self._read)
        ]
        return _intensities(self._read, slots, start, until)


def _intensities(
    read: Reader, slots: list[Slot], start: datetime, until: datetime, *, is_open: bool = False
) -> list[CarbonIntensity]:
    ordered = read.ordered(slots, low=0, high=MAX_KG_PER_KWH, unit="kg/kWh", is_open=is_open)
    return [
        CarbonIntensity(starts_at=slot.starts_at, until=slot.until or until, kg_per_kwh=slot.value)
        for slot in holding(ordered, start, until)
    ]
