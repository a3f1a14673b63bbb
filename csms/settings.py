"""config.toml and TASCO_SECTION__KEY from the environment, as one frozen value.

The environment wins. Unknown keys are refused with the nearest known one, in the file and in the
environment alike. An empty file is a working single-process system on loopback.
"""

import difflib
import os
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from csms.core.errors import ConfigError
from csms.core.model import AccessPolicy, Site
from csms.core.wiring import CircuitSetup, faults
from csms.settings_sites import Positive, Section, SiteSettings

PREFIX = "TASCO_"
TEST_PREFIX = "TASCO_TEST_"

Port = Annotated[int, Field(ge=0, le=65535)]


class GatewaySettings(Section):
    """`[gateway]`: where stations connect."""

    host: str = "127.0.0.1"
    port: Port = 9000
    heartbeat_interval_s: Annotated[int, Field(ge=10, le=86400)] = 300
    command_timeout_s: Positive = 30.0
    admitted_per_s: Positive = 100.0
    """Links let in a second; more wait their turn, or are told when it is."""
    links_per_minute: Annotated[int, Field(ge=2)] = 12
    """New links of one station; beyond it the station is refused for a while."""
    frames_per_s: Annotated[float, Field(ge=0)] = 20.0
    """Steady rate of messages of one station; beyond it reading pauses. 0 lifts the limit."""
    frames_burst: Annotated[int, Field(ge=1)] = 200
    """Messages a station may send at once after a silence."""
    allow_profile_0: bool = False
    """Accept stations without a password from other hosts as well: only for a closed network."""
    tls_certificate_file: Path | None = None
    """Chain of the station port's certificate. With it stations connect by wss://."""
    tls_key_file: Path | None = None
    tls_rsa_certificate_file: Path | None = None
    """A second chain with an RSA key beside one with an EC key, for stations that know only one."""
    tls_rsa_key_file: Path | None = None
    tls_port: Port | None = None
    """Port of wss:// beside ws:// on `port`; left out, `port` itself is wss:// alone."""
    station_ca_file: Path | None = None
    """Authorities of the stations' own certificates (profile 3), beside our own one."""
    behind_tls_proxy: bool = False
    """What comes in plainly was secured by a proxy in front: it counts as TLS."""
    name: str = ""
    """What a gateway node is called in logs and metrics; the machine's name if empty."""
    status_host: str = "127.0.0.1"
    status_port: Port | None = None
    """Where a gateway node answers /health and /metrics; nowhere if not set."""


class SecuritySettings(Section):
    """`[security]`: certificates of stations, and who signs them."""

    operator: Annotated[str, Field(max_length=64)] = ""
    """The organisation (O) that certificates of our stations name."""
    ca_folder: Path | None = None
    """Folder of our own certificate authority, made by `tasco ca init`."""
    certificate_days: Annotated[int, Field(ge=1, le=3650)] = 365
    """How long a certificate is valid that we sign for a station."""
    renew_before_days: Annotated[int, Field(ge=1, le=365)] = 30
    """An end that is nearer raises an alarm, and is renewed where automation is on."""
    contract_roots_file: Path | None = None
    """PEM file of the authorities whose contract certificates (ISO 15118) count."""
    contract_service_url: str = ""
    """The service that issues contract certificates to vehicles; without one they are told no."""
    contract_service_token: SecretStr | None = None
    contract_service_token_file: Path | None = None
    contract_service_allow_local: bool = False
    """Permit that service inside our own network, and plain http on this machine."""
    ocsp_hosts: tuple[str, ...] = ()
    """Hosts of OCSP responders that are asked; a responder elsewhere never is."""
    ocsp_allow_local: bool = False
    """Permit those hosts on loopback and any port: for tests and development."""


class StoreSettings(Section):
    """`[store]`: where everything is kept."""

    url: str = "sqlite:///var/tasco.sqlite3"
    hold_s: Positive = 15.0


Days = Annotated[float, Field(gt=0)]


class RetentionSettings(Section):
    """`[retention]`: days after which what is no longer needed is deleted, once a day.

    Sessions, their messages, samples and energy are kept for good: they are what is billed.
    Decisions on tokens, which are personal data, go after 30 days whatever is set here.
    """

    answers_days: Days = 2.0
    """Answers kept for API calls that are repeated with their Idempotency-Key: a client that has
    not tried again within two days will not."""
    plans_days: Days = 400.0
    """Plans with their whole input, and what was sent of them to stations. More than a year, so
    that a month can be explained beside the same month of the year before; a site's newest plan
    always stays."""
    journal_days: Days = 1100.0
    """Events, vendor messages and what stations reported: three years, as long as a charge can
    usually be disputed."""
    series_days: Days = 1100.0
    """Prices, carbon intensities and building loads: forecasts and analytics see three winters."""
    forecasts_days: Days = 90.0
    """Forecasts as they were made; their scores stay."""
    links_days: Days = 400.0
    """When each station was connected."""
    commands_days: Days = 400.0
    """What stations were asked and what came of it: commands, remote starts, orders to many, and
    requests with the reports that answered them. Open ones stay, and so do the guards that a
    registered station was given last, which say what it holds."""
    security_days: Days = 1100.0
    """What stations report of their own security: as long as events."""
    files_days: Days = 90.0
    """Logs that stations have sent: up to 200 MB each, and of use while a fault is looked into."""
    meters_days: Days = 400.0
    """Meter values outside transactions, which nothing is billed by: a year, and the same month of
    the year before."""
    devices_days: Days = 400.0
    """When each station booted, what it noticed, and alerts that are closed; open ones stay."""


class ArchiveSettings(Section):
    """`[archive]`: every frame as it went over the wire, to search and to export."""

    enabled: bool = True
    folder: Path | None = None
    """Where the frames are kept; `frames` beside a SQLite store, or `var/frames`, if not set."""
    max_mb: Annotated[int, Field(ge=64)] = 2048
    """Above this the oldest frames are deleted."""
    max_days: Annotated[float, Field(gt=0)] = 30.0


class BusSettings(Section):
    """`[bus]`: how gateway and centre reach each other; see docs/several-nodes.md."""

    type: Literal["local", "nats"] = "local"
    """"nats" where gateways and centre are processes of their own (`tasco serve --role ...`)."""
    url: Annotated[str, Field(pattern=r"^((nats|tls)://[^@\s]+)(,(nats|tls)://[^@\s,]+)*$")] = (
        "nats://127.0.0.1:4222"
    )
    """Servers of one NATS cluster, separated by commas; tls:// says nothing in the clear."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")] = "tasco"
    """First part of every subject: two systems on one server need two."""
    user: str = ""
    password: SecretStr | None = None
    password_file: Path | None = None
    token: SecretStr | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    """Authorities of the server's certificate; those of this machine if not set."""
    certificate_file: Path | None = None
    """Our own certificate, where the server asks for one."""
    key_file: Path | None = None


class ApiSettings(Section):
    """`[api]`: where operators and pages connect."""

    host: str = "127.0.0.1"
    port: Port = 8080
    demo: bool = False
    """Serve the demo's helper paths."""


class IdentitySettings(Section):
    """`[identity]`: tokens and who is behind them."""

    tenant_key: SecretStr | None = None
    """Key of the 20-character fingerprints; made and kept beside the store where neither is set."""
    tenant_key_file: Path | None = None
    key_epoch: Annotated[int, Field(ge=1, le=9)] = 1
    previous_tenant_key: SecretStr | None = None
    previous_tenant_key_file: Path | None = None
    offline_horizon_s: Annotated[int, Field(ge=60)] = 72 * 3600
    local_lists: bool = True
    """Keep the local authorization lists of stations in step with who may charge at their site."""
    master_organisation: str = ""
    """Organisation whose tokens are master passes: they stop what others began, start nothing."""
    empty_sites: Literal["none", "all"] = "none"


class PlannerSettings(Section):
    """`[planner]`: when and how sites are planned."""

    automation: bool = True
    """Off: nothing is sent to any station unasked."""
    slot_s: Literal[300, 900, 1800, 3600] = 900
    horizon_h: Annotated[float, Field(ge=1, le=72)] = 24.0
    collect_s: Annotated[float, Field(ge=0, le=60)] = 2.0
    tolerance_kw: Positive = 1.0
    budget_s: Positive = 5.0
    """Processor seconds within which a plan has to be made; more counts as a failure."""
    fallback_after: Annotated[int, Field(ge=1)] = 3
    """So many failures within `fallback_window_s` and the challenger, or least laxity, steps in."""
    fallback_window_s: Positive = 900.0
    return_after_s: Annotated[float, Field(ge=0)] = 1800.0
    """The strategy returns once it has done well in the background for so long."""
    read_back_after_s: Annotated[float, Field(ge=0, le=3600)] = 20.0
    """A station is asked what it holds this long after it came up or was given something again."""
    read_back_every_s: Annotated[float, Field(ge=60, le=604800)] = 3600.0
    """And then this often."""


class ForecastSettings(Section):
    """`[forecast]`: demand forecasts from the store's own sessions."""

    enabled: bool = True
    train_at: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "02:30"
    reserve_quantile: Literal["p50", "p90", "none"] = "p90"
    seed: int = 1


class TransferSettings(Section):
    """`[transfers]`: firmware that stations fetch, and files that they send."""

    schemes: tuple[str, ...] = ("https",)
    """Schemes of firmware and log URLs; "http" too only where the network is trusted."""
    allowed_urls: tuple[str, ...] = ()
    """Beginnings of URLs that are allowed whatever their scheme, host or login."""
    allow_unresolved: bool = False
    """Take host names that this machine cannot look up."""
    public_url: str = ""
    """How stations reach the API for uploads; the API's own host and port where it is empty."""
    folder: Path = Path("var/files")
    max_upload_bytes: Annotated[int, Field(ge=1)] = 200_000_000
    upload_open_s: Annotated[int, Field(ge=10, le=86400)] = 3600
    """How long a place for an upload stays open."""


class TelemetrySettings(Section):
    """`[telemetry]`: what the process says about itself."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


class ClockSettings(Section):
    """`[clock]`: a demo's day; left empty it is real time."""

    start: str = ""
    speed: Positive = 1.0
    zero: Annotated[float, Field(ge=0)] = 0.0
    """Unix time at which it showed `start`, shared by processes; 0: when this one began."""


Source = dict[str, Any]
"""`type` names the provider, the rest is checked by that provider's own options."""


def _default_source(kind: str, **options: object) -> dict[str, Source]:
    return {"default": {"type": kind, **options}}


class Settings(BaseSettings):
    """Everything that can be configured; each part receives its own section."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    site: dict[str, SiteSettings] = Field(default_factory=lambda: {"main": SiteSettings()})
    gateway: GatewaySettings = GatewaySettings()
    security: SecuritySettings = SecuritySettings()
    store: StoreSettings = StoreSettings()
    retention: RetentionSettings = RetentionSettings()
    archive: ArchiveSettings = ArchiveSettings()
    bus: BusSettings = BusSettings()
    api: ApiSettings = ApiSettings()
    identity: IdentitySettings = IdentitySettings()
    planner: PlannerSettings = PlannerSettings()
    forecast: ForecastSettings = ForecastSettings()
    transfers: TransferSettings = TransferSettings()
    tariff: dict[str, Source] = Field(
        default_factory=lambda: _default_source("fixed", eur_per_kwh=0.30)
    )
    carbon: dict[str, Source] = Field(default_factory=lambda: _default_source("none"))
    telemetry: TelemetrySettings = TelemetrySettings()
    clock: ClockSettings = ClockSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the environment above the file; nothing else is read."""
        return env_settings, init_settings

    def sites(self) -> dict[str, Site]:
        """Return the configured sites as the core's values."""
        return {
            site_id: Site(
                site_id=site_id,
                name=site.name or site_id,
                time_zone=site.time_zone,
                limit_kw=site.limit_kw,
                base_load_kw=site.base_load_kw,
                meter=site.meter,
                solar_meter=site.solar_meter,
                meter_stale_s=site.meter_stale_s,
                load_quantile=site.load_quantile,
                export_eur_per_kwh=site.export_eur_per_kwh,
                voltage_v=site.voltage_v,
                guard_share=site.guard_share,
                strategy=site.strategy,
                tariff_id=site.tariff,
                free_charging=site.free_charging,
                revenue_per_kwh=site.revenue_per_kwh,
            )
            for site_id, site in self.site.items()
        }

    def circuits(self) -> dict[str, tuple[CircuitSetup, ...]]:
        """Return each site's circuits; raise ConfigError where they are no tree."""
        found = {site_id: site.setups() for site_id, site in self.site.items()}
        wrong = [f"site.{i}: {fault}" for i, tree in found.items() for fault in faults(tree)]
        if wrong:
            raise ConfigError("\n".join(wrong))
        return found

    def told_tariffs(self) -> dict[str, str]:
        """Return by site the tariff that stations are told costs of: one that is configured.

        The tariff that plans fall back to is no price that anybody asked for.
        """
        if "tariff" not in self.model_fields_set:
            return {}
        return {site_id: site.tariff for site_id, site in self.site.items()}

    def access_policies(self) -> dict[str, AccessPolicy]:
        """Return what each site asks of whoever charges there."""
        return {
            site_id: AccessPolicy(
                free_charging=site.free_charging,
                requires_credential=site.requires_credential,
                min_assurance=site.min_assurance,
                trusted_issuers=site.trusted_issuers,
                offline_horizon_s=self.identity.offline_horizon_s,
            )
            for site_id, site in self.site.items()
        }


def load(path: Path | None, environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of `path` (None: no file) overlaid with `environ`.

    Raises ConfigError with the key, the value and what is permitted.
    """
    env = dict(os.environ if environ is None else environ)
    where = str(path) if path else "settings"
    raw = _read(path)
    _refuse_unknown_environment(env)
    try:
        return _build(raw, env)
    except ValidationError as error:
        raise ConfigError(_explain(error, where)) from error


def _build(raw: dict[str, Any], env: Mapping[str, str]) -> Settings:
    class _Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *_: Any, **__: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            source = EnvSettingsSource(settings_cls)
            source.env_vars = {k.lower(): v for k, v in env.items() if k.startswith(PREFIX)}
            return source, InitSettingsSource(settings_cls, raw)

    return _Loaded()


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; name one with --config") from error
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def _children(annotation: Any) -> type[BaseModel] | None:
    """Return the model behind an annotation such as `Section` or `dict[str, Section]`."""
    origin = typing.get_origin(annotation)
    if origin is dict:
        return _children(typing.get_args(annotation)[1])
    if origin in (typing.Union, types.UnionType):
        return next(filter(None, map(_children, typing.get_args(annotation))), None)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None


def _names(parts: tuple[str, ...]) -> tuple[list[str], bool]:
    """Return the names permitted below the path `parts`, and whether any name is."""
    model: type[BaseModel] | None = Settings
    names = list(Settings.model_fields)
    free = False
    skip = False
    for part in parts:
        if skip:
            skip = False
            continue
        if model is None or part not in model.model_fields:
            return names, free
        annotation = model.model_fields[part].annotation
        skip = typing.get_origin(annotation) is dict
        model = _children(annotation)
        names = list(model.model_fields) if model else []
        free = model is None
    return names, free


def _refuse_unknown_environment(env: Mapping[str, str]) -> None:
    for key in env:
        if not key.startswith(PREFIX) or key.startswith(TEST_PREFIX):
            continue
        parts = tuple(key.removeprefix(PREFIX).lower().split("__"))
        for depth, part in enumerate(parts):
            names, free = _names(parts[:depth])
            is_key_of_dict = depth == 1 and parts[0] in ("site", "tariff", "carbon")
            if free or is_key_of_dict:
                continue
            if part not in names:
                raise ConfigError(f"environment: {key} is not known{_nearest(part, names)}")


def _nearest(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]}?" if close else f"; permitted: {', '.join(sorted(names))}"


def _explain(error: ValidationError, where: str) -> str:
    lines = []
    for item in error.errors(include_url=False):
        location = tuple(str(p) for p in item["loc"])
        dotted = ".".join(location)
        if item["type"] == "extra_forbidden":
            names, _ = _names(location[:-1])
            lines.append(f"{where}: {dotted} is not known{_nearest(location[-1], names)}")
        else:
            secret = any(word in dotted for word in ("key", "password", "secret", "bus."))
            value = "***" if secret else repr(item["input"])
            lines.append(f"{where}: {dotted} is {value}; {item['msg'].lower()}")
    return "\n".join(lines)


def effective(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield (dotted key, value) of the whole effective configuration, secrets masked."""

    def walk(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, Mapping):
            for key, item in value.items():
                is_secret = any(word in str(key) for word in ("password", "secret", "api_key"))
                yield from walk(
                    f"{prefix}.{key}" if prefix else str(key), "***" if is_secret else item
                )
        else:
            yield prefix, str(value)

    yield from walk("", settings.model_dump(mode="json"))
