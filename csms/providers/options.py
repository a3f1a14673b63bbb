"""What providers' options have in common: fees and taxes, recordings, access to hosts."""

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import quote
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from csms.providers.fetch import Access

Number = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=500)]


class Options(BaseModel):
    """Options of a provider: frozen, nothing unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Surcharge(Options):
    """What the market price leaves out: (market + `add_eur_per_kwh`) x (1 + `vat_share`)."""

    add_eur_per_kwh: Number = 0.0
    vat_share: Annotated[float, Field(ge=0, le=1)] = 0.0

    def final(self, eur_per_kwh: float) -> float:
        """Return the price with fees and tax."""
        return (eur_per_kwh + self.add_eur_per_kwh) * (1 + self.vat_share)


class Recording(Options):
    """A table of recorded values: a file of the operator's, or a data set that comes with TASCO.

    `replay` answers times outside the recording with recorded ones, whole weeks (up to 52) away,
    which keeps the day of the week and the season. `replay_date` is the recorded day to give for
    the day `replay_as`, and its neighbours for the neighbours.
    """

    path: Path | None = None
    dataset: str | None = None
    column: Text = ""
    """Name of the column; "" takes the second."""
    replay: bool = False
    replay_date: date | None = None
    replay_as: date | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("either path or dataset must be given")
        if (self.replay_date is None) != (self.replay_as is None):
            raise ValueError("replay_date and replay_as belong together")
        if self.replay and self.replay_date is not None:
            raise ValueError("replay chooses the day itself; leave out replay_date")
        return self

    def shift(self) -> timedelta:
        """Return how much later a value is given than it was recorded."""
        if self.replay_date is None or self.replay_as is None:
            return timedelta(0)
        return self.replay_as - self.replay_date


class HttpAccess(Options):
    """Where to ask, and as whom."""

    url: Text = ""
    """Template of the address; "" takes the provider's own."""
    area: Annotated[str, Field(max_length=40)] = ""
    market_time_zone: str = "Europe/Brussels"
    """Whose calendar day {date} in the address means."""
    token: SecretStr | None = None
    token_file: Path | None = None
    token_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,40}$")] = "Authorization"
    token_prefix: Literal["Bearer ", ""] = "Bearer "
    allow_http: bool = False
    allow_private: bool = False
    ports: Annotated[tuple[Annotated[int, Field(ge=1, le=65535)], ...], Field(min_length=1)] = (
        443,
    )

    _check_zone = field_validator("market_time_zone")(lambda zone: known_zone(zone))

    @model_validator(mode="after")
    def _has_one_token(self) -> Self:
        if self.token is not None and self.token_file is not None:
            raise ValueError("token and token_file exclude each other")
        return self

    def access(self) -> Access:
        """Return what the fetcher may do for this provider."""
        return Access(
            allow_http=self.allow_http, allow_private=self.allow_private, ports=self.ports
        )

    def headers(self) -> dict[str, str]:
        """Return the header that carries the token, reading `token_file` where it is given."""
        if self.token is not None:
            secret = self.token.get_secret_value()
        elif self.token_file is not None:
            secret = self.token_file.read_text(encoding="utf-8").strip()
        else:
            return {}
        return {self.token_header: self.token_prefix + secret}

    def addresses(self, template: str, start: datetime, until: datetime) -> list[str]:
        """Return the addresses to ask for [start, until): one, or one per market day."""
        values = {"area": self.area, **_moments(start, until)}
        if "{date}" not in template:
            return [_filled(template, values)]
        zone = ZoneInfo(self.market_time_zone)
        day = start.astimezone(zone).date()
        last = (until - timedelta(microseconds=1)).astimezone(zone).date()
        days = [day + timedelta(days=n) for n in range((last - day).days + 1)]
        return [
            _filled(
                template,
                values | {"date": d.isoformat(), "next_date": (d + timedelta(1)).isoformat()},
            )
            for d in days
        ]


def known_zone(zone: str) -> str:
    """Return `zone` if it is a time zone; ValueError otherwise."""
    try:
        ZoneInfo(zone)
    except (LookupError, ValueError, OSError) as error:
        raise ValueError(f"{zone!r} is no time zone; it must be one such as Europe/Berlin") from (
            error
        )
    return zone


def _moments(start: datetime, until: datetime) -> dict[str, str]:
    values = {}
    for name, at in (("start", start), ("until", until)):
        values[name] = f"{at:%Y-%m-%dT%H:%M:%SZ}"
        values[f"{name}_minute"] = f"{at:%Y-%m-%dT%H:%M}"
        values[f"{name}_s"] = str(int(at.timestamp()))
        values[f"{name}_ms"] = str(int(at.timestamp()) * 1000)
    return values


def _filled(template: str, values: dict[str, str]) -> str:
    # Replaced one by one, not by str.format: a template is configuration, not a program.
    for name, value in values.items():
        template = template.replace("{" + name + "}", quote(value, safe=""))
    return template
