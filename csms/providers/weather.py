"""Weather: none, or the temperatures and irradiance of an Open-Meteo forecast."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from csms.core.model import Site
from csms.providers.asking import ask
from csms.providers.fetch import Fetcher
from csms.providers.options import HttpAccess
from csms.providers.slots import Reader

OPEN_METEO: Final = (
    "https://api.open-meteo.com/v1/forecast?latitude={latitude}&longitude={longitude}"
    "&minutely_15=temperature_2m,global_tilted_irradiance_instant&timeformat=unixtime"
    "&start_minutely_15={start_minute}&end_minutely_15={until_minute}"
)
QUARTER: Final = timedelta(minutes=15)
_SERIES: Final = {
    "temperature_2m": ("temperature_c", "°C"),
    "global_tilted_irradiance_instant": ("irradiance_w_per_m2", "W/m²"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """The weather in [starts_at, until); None where the provider left a value out."""

    starts_at: datetime
    until: datetime
    temperature_c: float | None = None
    irradiance_w_per_m2: float | None = None


class ForecastOptions(HttpAccess):
    """Open-Meteo, or a server that speaks like it; a site without coordinates has no weather."""


class NoWeather:
    """Nothing is known of the weather."""

    async def hours(self, site: Site, start: datetime, until: datetime) -> Sequence[Weather]:
        """Return nothing."""
        return []


class ForecastWeather:
    """A forecast over HTTP, in quarter hours."""

    def __init__(self, options: ForecastOptions, *, provider: str, fetcher: Fetcher) -> None:
        self.options = options
        self._read = Reader(provider)
        self._fetcher = fetcher

    async def hours(self, site: Site, start: datetime, until: datetime) -> Sequence[Weather]:
        """Return the forecast for `site` in [start, until), in order."""
        if site.latitude is None or site.longitude is None:
            return []
        template = self.options.url or OPEN_METEO
        for name, degrees in (("latitude", site.latitude), ("longitude", site.longitude)):
            template = template.replace("{" + name + "}", f"{degrees:.4f}")
        answers = await ask(
            self.options.model_copy(update={"url": template}),
            template,
            start,
            until,
            provider=self._read.provider,
            fetcher=self._fetcher,
        )
        found = {w.starts_at: w for answer in answers for w in open_meteo(answer, self._read)}
        return [found[at] for at in sorted(found) if start <= at < until]


def open_meteo(payload: object, read: Reader) -> list[Weather]:
    """Read `minutely_15`: Unix times, a list per series, its unit beside it; null leaves it out."""
    answer = read.members(payload, "answer")
    if answer.get("error"):
        raise read.error("reason", answer.get("reason"), "a forecast")
    units = read.members(answer.get("minutely_15_units"), "minutely_15_units")
    series = read.members(answer.get("minutely_15"), "minutely_15")
    stamps = read.items(series.get("time"), "minutely_15.time")
    values: list[dict[str, float]] = [{} for _ in stamps]
    for name, (attribute, unit) in _SERIES.items():
        where = f"minutely_15.{name}"
        found = read.items(series.get(name), where)
        if units.get(name) not in (unit, unit.replace("²", "2")):
            raise read.error(f"minutely_15_units.{name}", units.get(name), unit)
        if len(found) != len(stamps):
            raise read.error(where, f"{len(found)} values", f"{len(stamps)} like time")
        for index, value in enumerate(found):
            if value is not None:
                values[index][attribute] = read.number(value, f"{where}[{index}]")
    starts = [read.epoch(stamp, f"minutely_15.time[{i}]") for i, stamp in enumerate(stamps)]
    return [
        Weather(starts_at=at, until=at + QUARTER, **known)
        for at, known in zip(starts, values, strict=True)
    ]
