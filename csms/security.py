"""From the configuration to the stations' authority and to who checks contract certificates."""

import stat
from typing import Any

from csms.core.errors import ConfigError, InvalidInput
from csms.gateway_setup import secret
from csms.identity.certificates import certificates_in
from csms.providers.contracts import HttpContracts
from csms.providers.fetch import Fetcher
from csms.providers.ocsp import OcspResponders
from csms.service.authority import LocalAuthority
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
