"""Energy prices: fixed, by time of use, recorded, or from a day-ahead provider over HTTP.

Every source answers with the slots it knows that hold at some time in [start, until), in order and
in EUR per kWh; prices not yet published are simply not there. Slots come whole, and the same
whenever they are asked for, so that a store can key them by their start: those of the market as
published, prices that know no slots in whole hours.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from csms.core.errors import ProviderError
from csms.core.model import Price
from csms.providers.asking import ask
from csms.providers.fetch import Fetcher
from csms.providers.options import HttpAccess, Number, Options, Recording, Surcharge, known_zone
from csms.providers.price_formats import FORMATS, Choice, eur
from csms.providers.slots import (
    HOUR,
    MAX_EUR_PER_KWH,
    Reader,
    Slot,
    converted,
    holding,
    whole_hours,
)
from csms.providers.tables import Table

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
STEP = timedelta(minutes=15)
MAX_ASKED = timedelta(days=800)
EurPerKwh = Annotated[float, Field(ge=-MAX_EUR_PER_KWH, le=MAX_EUR_PER_KWH, allow_inf_nan=False)]


class FixedOptions(Options):
    """One price at all times."""

    eur_per_kwh: EurPerKwh


class Band(Options):
    """A price from `starts` to `until` on the clock of the wall; past midnight if it ends first."""

    starts: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):(00|15|30|45)$")]
    until: Annotated[str, Field(pattern=r"^(([01]\d|2[0-3]):(00|15|30|45)|24:00)$")]
    days: tuple[Weekday, ...] = WEEKDAYS
    """Days on which the instant itself falls, also after midnight."""
    eur_per_kwh: EurPerKwh

    def holds(self, local: datetime) -> bool:
        """Return whether the wall shows a time of this band."""
        if WEEKDAYS[local.weekday()] not in self.days:
            return False
        minute = local.hour * 60 + local.minute
        start, end = _minutes(self.starts), _minutes(self.until)
        return start <= minute < end if start < end else minute >= start or minute < end


class TimeOfUseOptions(Options):
    """Bands of the local day; the first that holds counts, `eur_per_kwh` where none does."""

    time_zone: str = "UTC"
    eur_per_kwh: EurPerKwh
    bands: tuple[Band, ...] = ()

    _check_zone = field_validator("time_zone")(lambda zone: known_zone(zone))


class FileOptions(Recording, Surcharge):
    """Recorded prices."""

    unit: Literal["eur_per_mwh", "eur_per_kwh"] = "eur_per_mwh"


class HttpOptions(HttpAccess, Surcharge):
    """A day-ahead provider; `format` says whose answers are read."""

    format: str
    series: str = ""
    eur_per_unit: Annotated[Number, Field(gt=0)] | None = None
    """Exchange rate where the provider's currency is not EUR."""

    @field_validator("format")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in FORMATS:
            raise ValueError(f"permitted: {', '.join(FORMATS)}")
        return name

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        chosen = FORMATS[self.format]
        if not (self.url or chosen.url):
            raise ValueError(f"format {self.format} needs url")
        if chosen.needs_area and not self.area:
            raise ValueError(f"format {self.format} needs area")
        if self.series and self.series not in chosen.series:
            permitted = ", ".join(chosen.series) or "none"
            raise ValueError(f"series is {self.series!r}; permitted: {permitted}")
        return self


class FixedTariff:
    """One price at all times."""

    def __init__(self, options: FixedOptions) -> None:
        self.options = options

    async def prices(self, start: datetime, until: datetime) -> Sequence[Price]:
        """Return the price of the hours of [start, until)."""
        return [
            _price(starts_at, ends_at, self.options.eur_per_kwh)
            for starts_at, ends_at in whole_hours(start, until)
        ]


class TimeOfUseTariff:
    """Prices by the clock on the wall, right also on the days it changes."""

    def __init__(self, options: TimeOfUseOptions) -> None:
        self.options = options
        self._zone = ZoneInfo(options.time_zone)

    async def prices(self, start: datetime, until: datetime) -> Sequence[Price]:
        """Return the prices of the hours of [start, until), an hour cut where a band ends."""
        if until - start > MAX_ASKED:
            raise ProviderError(f"time_of_use: asked for {until - start}; at most {MAX_ASKED}")
        found: list[Price] = []
        for hour, _ in whole_hours(start, until):
            for at in (hour + STEP * number for number in range(HOUR // STEP)):
                price = self._at(at)
                if at > hour and found[-1].eur_per_kwh == price:
                    found[-1] = _price(found[-1].starts_at, at + STEP, price)
                else:
                    found.append(_price(at, at + STEP, price))
        return [price for price in found if price.starts_at < until and price.until > start]

    def _at(self, at: datetime) -> float:
        local = at.astimezone(self._zone)
        return next(
            (band.eur_per_kwh for band in self.options.bands if band.holds(local)),
            self.options.eur_per_kwh,
        )


class RecordedTariff:
    """Prices from a file."""

    def __init__(self, options: FileOptions, *, provider: str) -> None:
        self.options = options
        self._read = Reader(provider)
        self._table = Table(options, provider=provider)

    async def prices(self, start: datetime, until: datetime) -> Sequence[Price]:
        """Return the recorded prices that hold in [start, until)."""
        per_unit = 1000.0 if self.options.unit == "eur_per_mwh" else 1.0
        slots = converted(await self._table.slots(start, until), lambda value: value / per_unit)
        return _prices(_ordered(self._read, slots, is_open=True), self.options, start, until)


class HttpTariff:
    """Prices from a day-ahead provider."""

    def __init__(self, options: HttpOptions, *, provider: str, fetcher: Fetcher) -> None:
        self.options = options
        self._format = FORMATS[options.format]
        self._read = Reader(f"{provider} ({options.format})")
        self._fetcher = fetcher

    async def prices(self, start: datetime, until: datetime) -> Sequence[Price]:
        """Return what is published for [start, until); nothing is no error.

        Raises ProviderError, with the field at fault; RateLimited while the provider wants rest.
        """
        options, slots, is_open = self.options, list[Slot](), False
        choice = Choice(area=options.area, series=options.series)
        answers = await ask(
            options,
            self._format.url,
            start,
            until,
            query=self._format.query,
            provider=self._read.provider,
            fetcher=self._fetcher,
        )
        for answer in answers:
            parsed = eur(
                self._format.parse(answer, choice, self._read),
                eur_per_unit=options.eur_per_unit,
                read=self._read,
            )
            slots += parsed.slots
            is_open = is_open or parsed.is_open
        ordered = _ordered(self._read, slots, is_open=is_open)
        return _prices(ordered, options, start, until)


def _ordered(read: Reader, slots: Sequence[Slot], *, is_open: bool = False) -> list[Slot]:
    return read.ordered(
        slots, low=-MAX_EUR_PER_KWH, high=MAX_EUR_PER_KWH, unit="EUR/kWh", is_open=is_open
    )


def _prices(
    slots: Sequence[Slot], surcharge: Surcharge, start: datetime, until: datetime
) -> list[Price]:
    return [
        _price(slot.starts_at, slot.until or until, surcharge.final(slot.value))
        for slot in holding(slots, start, until)
    ]


def _price(starts_at: datetime, until: datetime, eur_per_kwh: float) -> Price:
    return Price(starts_at=starts_at, until=until, eur_per_kwh=eur_per_kwh)


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)
