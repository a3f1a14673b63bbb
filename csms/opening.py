"""What a process opens before any part is built: its store, its keys, its archive."""

import contextlib
import os
import secrets
from datetime import timedelta
from pathlib import Path

from csms import security
from csms.core.errors import ConfigError
from csms.gateway_setup import clock_from, gateway_options, secret
from csms.providers.fetch import Fetcher
from csms.providers.registry import carbon_source, tariff_source
from csms.service.authorization import TenantKeys
from csms.settings import IdentitySettings, Settings
from csms.store import stations, wiring
from csms.store.archive import FrameArchive
from csms.store.connections import parsed
from csms.store.database import Store
from csms.store.statements import Tx


def database_path(url: str) -> Path | None:
    """Return the file of a SQLite URL, None for a server."""
    prefix = "sqlite:///"
    return Path(url.removeprefix(prefix)) if url.startswith(prefix) else None


def frame_archive(settings: Settings) -> FrameArchive | None:
    """Open the archive of frames where the configuration wants one."""
    options = settings.archive
    if not options.enabled:
        return None
    store = database_path(settings.store.url)
    folder = options.folder or (Path("var") if store is None else store.parent) / "frames"
    try:
        return FrameArchive(
            folder,
            max_bytes=options.max_mb * 2**20,
            max_age=timedelta(days=options.max_days),
        )
    except OSError as error:
        raise ConfigError(f"archive.folder {folder} cannot be used: {error.strerror}") from error


def tenant_keys(identity: IdentitySettings, store_url: str) -> TenantKeys:
    """Return the keys of the 20-character names, made on first use beside a SQLite store.

    Raises ConfigError where no key is configured and there is no place to keep one.
    """
    key = secret(identity.tenant_key, identity.tenant_key_file)
    previous = secret(identity.previous_tenant_key, identity.previous_tenant_key_file)
    if key is None:
        key = _kept_key(store_url)
    return TenantKeys(key=key, epoch=identity.key_epoch, previous=previous)


def _kept_key(store_url: str) -> bytes:
    path = database_path(store_url)
    if path is None:
        raise ConfigError(
            "identity.tenant_key is not set; several nodes need the same one: set "
            "TASCO_IDENTITY__TENANT_KEY or identity.tenant_key_file"
        )
    file = path.parent / "tenant.key"
    with contextlib.suppress(FileExistsError):
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as out:
            out.write(secrets.token_hex(32))
    return file.read_bytes().strip()


async def open_store(settings: Settings) -> Store:
    """Open the configured store, its folder made, its schema and its sites up to date."""
    path = database_path(settings.store.url)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    store = await Store.open(settings.store.url, hold_s=settings.store.hold_s)
    sites, circuits = settings.sites(), settings.circuits()

    def keep(tx: Tx) -> None:
        for site_id, site in sites.items():
            stations.configure_site(tx, site)
            wiring.configure_circuits(tx, site_id, circuits[site_id])

    await store.write(keep)
    return store


def check_parts(settings: Settings) -> None:
    """Build what only fails when it is built: clock, store, TLS, providers. Raises ConfigError."""
    clock_from(settings)
    settings.circuits()
    if database_path(settings.store.url) is None:
        # A SQLite store's folder is made when it is opened; a server's URL has to be right.
        parsed(settings.store.url)
    gateway_options(settings)
    security.check(settings)
    if settings.bus.type == "nats":
        # Here and not above: a single process does not load NATS.
        from csms.bus_setup import line_options

        line_options(settings)
    fetcher = Fetcher()
    for name, options in settings.tariff.items():
        tariff_source(options, name=f"tariff.{name}", fetcher=fetcher)
    for name, options in settings.carbon.items():
        carbon_source(options, name=f"carbon.{name}", fetcher=fetcher)
    for site_id, site in settings.site.items():
        for kind, name, known in (
            ("tariff", site.tariff, settings.tariff),
            ("carbon", site.carbon, settings.carbon),
        ):
            if name not in known:
                raise ConfigError(
                    f"site.{site_id}.{kind} is {name!r}; permitted: {', '.join(sorted(known))}"
                )
