"""From the configuration to what a gateway runs with: its clock, TLS and numbers.

Nothing here knows the store or the services: a gateway node loads it and must not pay for those.
"""

import ssl
import time
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import SecretStr

from csms.clock import Clock
from csms.core.errors import ConfigError
from csms.core.security import STATION_ROOT
from csms.gateway.config import GatewayConfig
from csms.gateway.tls import server_context
from csms.settings import Settings


def clock_from(settings: Settings) -> Clock:
    """Return the process's clock; a demo's starts where the configuration says."""
    if not settings.clock.start:
        return Clock()
    try:
        start = datetime.fromisoformat(settings.clock.start)
    except ValueError as error:
        raise ConfigError(f"clock.start is {settings.clock.start!r}; {error}") from error
    if start.tzinfo is None:
        raise ConfigError(f"clock.start is {settings.clock.start!r}; it needs an offset or Z")
    clock = settings.clock
    if clock.zero:
        start += timedelta(seconds=(time.time() - clock.zero) * clock.speed)
    return Clock(start=start, speed=clock.speed)


def secret(value: SecretStr | None, file: Path | None) -> bytes | None:
    """Return a secret of the configuration, given there or in a file; raises ConfigError."""
    if value is not None:
        return value.get_secret_value().encode()
    if file is None:
        return None
    try:
        return file.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error


def station_ca_files(settings: Settings) -> list[Path]:
    """Return the files of the authorities whose certificates stations may show."""
    files = [] if settings.gateway.station_ca_file is None else [settings.gateway.station_ca_file]
    folder = settings.security.ca_folder
    if folder is not None and (folder / f"{STATION_ROOT}.pem").is_file():
        files.append(folder / f"{STATION_ROOT}.pem")
    return files


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Return the TLS context of the station port, None for plain ws; raises ConfigError."""
    gateway = settings.gateway
    first, second = gateway.tls_certificate_file, gateway.tls_rsa_certificate_file
    if first is None:
        for key in ("tls_key_file", "tls_rsa_certificate_file", "tls_port", "station_ca_file"):
            if getattr(gateway, key) is not None:
                raise ConfigError(f"gateway.{key} needs gateway.tls_certificate_file")
        return None
    chains = [(first, gateway.tls_key_file)]
    if second is not None:
        chains.append((second, gateway.tls_rsa_key_file))
    files = station_ca_files(settings)
    if files and not settings.security.operator:
        raise ConfigError(
            "security.operator is empty; it must be the organisation in the stations' certificates"
        )
    try:
        return server_context(chains, station_ca_files=files)
    except (OSError, ssl.SSLError) as error:
        names = ", ".join(str(path) for path, _ in chains)
        raise ConfigError(f"gateway: TLS cannot use {names}: {error}") from error


def gateway_options(settings: Settings) -> GatewayConfig:
    """Return the gateway's numbers and its TLS; raises ConfigError."""
    gateway = settings.gateway
    return GatewayConfig(
        host=gateway.host,
        port=gateway.port,
        admitted_per_s=gateway.admitted_per_s,
        links_per_minute=gateway.links_per_minute,
        frames_per_s=gateway.frames_per_s,
        frames_burst=gateway.frames_burst,
        call_timeout_s=gateway.command_timeout_s,
        tls=tls_context(settings),
        tls_port=gateway.tls_port,
        behind_tls_proxy=gateway.behind_tls_proxy,
    )
