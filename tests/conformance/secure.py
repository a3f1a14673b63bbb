"""A system with TLS and a certificate authority of its own, and stations that hold certificates."""

import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from websockets.exceptions import InvalidHandshake, InvalidStatus

from csms.identity import ca
from csms.service.authority import CSMS_ROOT, STATION_ROOT, LocalAuthority
from csms.settings import GatewaySettings, SecuritySettings
from tests.authorities import OPERATOR, an_authority, server_files
from tests.conformance.conftest import Lab
from tests.conformance.raw import RawStation, linked
from tests.scenarios.world import World, living, settings

PASSWORD = "a:colon and 16 more"
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def csr(
    name: str, key: Key, *, operator: str = OPERATOR, algorithm: Any = None
) -> x509.CertificateSigningRequest:
    """Return a station's request."""
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if operator:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, operator))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    return builder.sign(key, algorithm or hashes.SHA256())


def csr_pem(name: str, key: Key, **given: Any) -> str:
    """Return a station's request as text."""
    return csr(name, key, **given).public_bytes(serialization.Encoding.PEM).decode()


@dataclass
class SecureLab(Lab):
    """The system under test with its operator, its authority, and a folder for keys."""

    folder: Path = field(default_factory=Path)
    authority: LocalAuthority = field(
        default_factory=lambda: LocalAuthority(folder=Path(), operator="")
    )

    @property
    def wss(self) -> str:
        """Where stations connect with TLS."""
        return f"wss://localhost:{self.world.system.gateway.tls_port}/ocpp"

    def root(self, name: str) -> ca.Authority:
        """Return a root of the system's authority."""
        return self.authority.load(name)

    def signed(
        self,
        name: str,
        *,
        root: ca.Authority | None = None,
        operator: str = OPERATOR,
        at: datetime | None = None,
        days: int = 30,
    ) -> tuple[str, Key]:
        """Return a station certificate (PEM) and its key, good unless told otherwise."""
        key = ca.new_key("ec")
        made = ca.station_certificate(
            root or self.root(STATION_ROOT),
            csr(name, key, operator=operator),
            now=at or datetime.now(UTC),
            days=days,
        )
        return ca.pem_of(made), key

    def client(self, *, holding: tuple[str, Key] | None = None) -> ssl.SSLContext:
        """Return a station's TLS: it trusts the system's root, and may hold a certificate."""
        context = ssl.create_default_context(cadata=self.root(CSMS_ROOT).pem)
        if holding is not None:
            pem, key = holding
            file = self.folder / f"client-{len(list(self.folder.glob('client-*')))}.pem"
            file.write_text(pem + ca.key_pem(key))
            context.load_cert_chain(file)
        return context

    @contextlib.asynccontextmanager
    async def secured(
        self,
        version: str,
        station_id: str = "CS-1",
        *,
        holding: tuple[str, Key] | None = None,
        boots: bool = True,
        **given: Any,
    ) -> AsyncIterator[RawStation]:
        """Connect a registered station with TLS."""
        given.setdefault("ssl", self.client(holding=holding))
        async with linked(self.wss, station_id, version, **given) as station:
            if boots:
                assert (await station.boot())["status"] == "Accepted"
            yield station

    async def refused(self, version: str, station_id: str = "CS-1", **given: Any) -> int:
        """Return the HTTP status of a refused handshake, 0 where TLS itself refused it."""
        url = given.pop("url", self.wss)
        if url == self.wss:
            given.setdefault("ssl", self.client(holding=given.pop("holding", None)))
        try:
            async with linked(url, station_id, version, **given):
                raise AssertionError("the handshake was accepted")
        except InvalidStatus as error:
            return error.response.status_code
        except (InvalidHandshake, OSError, EOFError):
            return 0

    async def events(self, kind: str, station_id: str = "") -> list[dict[str, Any]]:
        """Return the events of a kind, newest first."""
        found = await self.get("log", station_id=station_id, limit=200)
        return [e for e in found["items"] if (e.get("event") or e)["kind"] == kind]


@contextlib.asynccontextmanager
async def secure_lab(sqlite_url: str, folder: Path, **security: Any) -> AsyncIterator[SecureLab]:
    """Run a system with ws and wss, an EC and an RSA chain, and its own authority."""
    authority = an_authority(folder, days=365)
    ec_files, rsa_files = (server_files(authority, folder, k, days=90) for k in ("ec", "rsa"))
    given = settings(
        sqlite_url,
        gateway=GatewaySettings(
            port=0,
            tls_port=0,
            tls_certificate_file=ec_files[0],
            tls_key_file=ec_files[1],
            tls_rsa_certificate_file=rsa_files[0],
            tls_rsa_key_file=rsa_files[1],
        ),
        security=SecuritySettings(operator=OPERATOR, ca_folder=folder / "ca", **security),
    )
    async with living(given) as world, world.operator() as api:
        yield SecureLab(world, api, folder=folder, authority=authority)


def foreign_root() -> ca.Authority:
    """Return a root that nobody trusts."""
    return ca.new_root(
        name="somebody's root",
        operator=OPERATOR,
        now=datetime.now(UTC) - timedelta(days=100),
        days=400,
    )


async def registered(world: World, station_id: str = "CS-1", **given: Any) -> None:
    """Register a station."""
    await world.register(station_id, **given)
