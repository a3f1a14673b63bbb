"""From the configuration to TLS, the station authority, and the gateway's numbers."""

import ssl
import stat
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from csms.core.errors import ConfigError, InvalidInput
from csms.gateway.config import GatewayConfig
from csms.gateway.tls import server_context
from csms.identity.certificates import certificates_in
from csms.providers.contracts import HttpContracts
from csms.providers.fetch import Fetcher
from csms.providers.ocsp import OcspResponders
from csms.service.authority import STATION_ROOT, LocalAuthority
from csms.service.contracts import Contracts
from csms.settings import SecuritySettings, Settings


def local_authority(settings: Settings) -> LocalAuthority | None:
    """Return our own certificate authority, None where none is configured."""
    security = settings.security
    if security.ca_folder is None:
        return None
    return LocalAuthority(
        folder=security.ca_folder, operator=security.operator, days=security.certificate_days
    )


def contracts(settings: Settings) -> Contracts:
    """Return who checks contract certificates; raises ConfigError."""
    security = settings.security
    trusted: list[Any] = []
    file = security.contract_roots_file
    if file is not None:
        try:
            trusted = certificates_in(file.read_text(encoding="ascii"))
        except (OSError, UnicodeError, InvalidInput) as error:
            raise ConfigError(
                f"security.contract_roots_file is {file}: {error}; it must hold certificates in PEM"
            ) from error
    source = OcspResponders(
        hosts=security.ocsp_hosts, fetcher=Fetcher(), allow_local=security.ocsp_allow_local
    )
    return Contracts(source=source, trusted=tuple(trusted), issuer=_contract_service(security))


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


def _contract_service(security: SecuritySettings) -> HttpContracts | None:
    """Return who issues contract certificates, None where nobody is named; raises ConfigError."""
    if not security.contract_service_url:
        return None
    token = secret(security.contract_service_token, security.contract_service_token_file)
    return HttpContracts(
        url=security.contract_service_url,
        token=(token or b"").decode(),
        fetcher=Fetcher(),
        allow_local=security.contract_service_allow_local,
    )


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


def check(settings: Settings) -> None:
    """Raise ConfigError if our certificate authority cannot be used or its keys lie open."""
    contracts(settings)
    authority = local_authority(settings)
    if authority is None:
        return
    try:
        for name, file in authority.roots():
            if stat.S_IMODE(file.with_suffix(".key").stat().st_mode) & 0o077:
                raise ConfigError(f"{file.with_suffix('.key')} is open to others; chmod 600 it")
            authority.load(name)
    except (OSError, InvalidInput) as error:
        raise ConfigError(
            f"security.ca_folder is {settings.security.ca_folder}: {error}; "
            f"`tasco ca init` makes an authority"
        ) from error


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
