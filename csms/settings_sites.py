"""What config.toml says of sites and the circuits below their connections."""

from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from csms.core.model import Assurance, Strategy
from csms.core.presets import PRESETS
from csms.core.wiring import CircuitSetup

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Amperes = Number | Annotated[tuple[Number, ...], Field(min_length=3, max_length=3)]
"""One current for all phases, or one each for L1, L2 and L3."""


class Section(BaseModel):
    """A table of the configuration; keys that are not listed are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CircuitSettings(Section):
    """`[site.<id>.circuit.<circuit id>]`: a fuse, cable or meter with EVSEs behind it."""

    name: str = ""
    parent: str = ""
    limit_a: Amperes | None = None
    limit_kw: Number | None = None
    load_a: Amperes | None = None
    """What draws here besides EVSEs and circuits below; also part of the site's base_load_kw."""
    load_kw: Number | None = None
    meter: Annotated[str, Field(max_length=60)] = ""
    """What measures that load (see docs/metering.md); load_a or load_kw is then its most."""
    voltage_v: Annotated[float, Field(ge=100, le=480)] | None = None
    evses: tuple[Annotated[str, Field(min_length=1, max_length=60)], ...] = ()
    """Stations ("CP-1", "HALL-*") and EVSEs ("TWIN-1/2") that hang here."""


class SiteSettings(Section):
    """`[site.<id>]`: a place with one grid connection."""

    preset: Literal["", "depot", "workplace", "retail"] = ""
    """Kind of site: sets what is left out of strategy, challenger, guards and reserve."""
    name: str = ""
    time_zone: str = "UTC"
    limit_kw: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 22.0
    base_load_kw: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """The building's load; the most it ever is where a meter measures it."""
    meter: Annotated[str, Field(max_length=60)] = ""
    """What measures the building's load, EVSEs not included (see docs/metering.md)."""
    solar_meter: Annotated[str, Field(max_length=60)] = ""
    """What measures the site's own generation."""
    meter_stale_s: Annotated[float, Field(ge=10, le=86400)] = 300.0
    """A meter that told nothing for so long is silent: the most that its load may be counts."""
    load_quantile: Annotated[float, Field(ge=0.5, le=1)] = 0.9
    """Quantile of past weeks' loads that is planned with where nobody forecasts them."""
    export_eur_per_kwh: Annotated[float, Field(ge=0, le=10)] = 0.0
    """What a kWh of own generation earns that nobody uses."""
    voltage_v: Annotated[float, Field(ge=100, le=480)] = 230.0
    guard_share: Share = 0.2
    strategy: Strategy = Strategy.OPTIMAL
    challenger: Strategy | None = None
    """Strategy that plans every case too, in the background, to compare; and steps in."""
    reserve_quantile: Literal["", "p50", "p90", "none"] = ""
    """Room kept for forecast arrivals; "" takes the one of `[forecast]`."""
    tariff: str = "default"
    carbon: str = "default"
    free_charging: bool = False
    min_assurance: Assurance = Assurance.A0
    requires_credential: bool = False
    trusted_issuers: tuple[str, ...] = ()
    revenue_per_kwh: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.35
    demand_charge_eur_per_kw: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Price of the month's highest quarter hour."""
    peak_hint_kw: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """A peak that the month reaches anyhow, such as the last one's: up to it power is free."""
    guaranteed_minutes: Annotated[float, Field(ge=0, le=1440)] = 0.0
    """For so long after its arrival a car gets its least current, whatever energy costs."""
    circuit: dict[str, CircuitSettings] = Field(default_factory=dict)

    def setups(self) -> tuple[CircuitSetup, ...]:
        """Return the site's circuits as the core's values, by id."""
        return tuple(
            CircuitSetup(
                circuit_id=circuit_id,
                name=c.name,
                parent_id=c.parent,
                limit_a=_amperes(c.limit_a),
                limit_kw=c.limit_kw,
                load_a=_amperes(c.load_a),
                load_kw=c.load_kw,
                voltage_v=c.voltage_v or self.voltage_v,
                evses=c.evses,
                meter=c.meter,
            )
            for circuit_id, c in sorted(self.circuit.items())
        )

    @model_validator(mode="after")
    def _has_a_worst_case(self) -> "SiteSettings":
        if self.meter and not self.base_load_kw:
            raise ValueError(
                "base_load_kw must say the most that the building draws where meter is set: it "
                "counts while the meter is silent"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, given: Any) -> Any:
        chosen = given.get("preset") if isinstance(given, dict) else None
        return {**PRESETS.get(str(chosen), {}), **given} if chosen else given

    @field_validator("time_zone")
    @classmethod
    def _is_a_time_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError("it must be an IANA time zone such as Europe/Berlin") from error
        return value


def _amperes(given: float | tuple[float, ...] | None) -> tuple[float, ...]:
    return () if given is None else given if isinstance(given, tuple) else (float(given),)
