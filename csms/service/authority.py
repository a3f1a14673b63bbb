"""Our own certificate authority: three roots in a folder, their keys readable by us alone.

Stations trust `csms-root` (it signs the station port's certificate), the station port trusts
`station-root`, and cars trust `v2g-root`. The files are read when something is signed: no key
stays in memory, and a folder that is not there is an authority that cannot be reached.
"""

import asyncio
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from csms.core.errors import Conflict, ProviderError
from csms.core.security import STATION_ROOT
from csms.identity import ca
from csms.store.certificates import STATION, V2G

CSMS_ROOT, V2G_ROOT = "csms-root", "v2g-root"
ROOTS = (CSMS_ROOT, STATION_ROOT, V2G_ROOT)
_ROOT_OF = {STATION: STATION_ROOT, V2G: V2G_ROOT}


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalAuthority:
    """The authority in `folder`; what it signs is valid for `days`."""

    folder: Path
    operator: str
    days: int = 365

    def roots(self) -> Iterator[tuple[str, Path]]:
        """Yield the name and the certificate's file of each root."""
        for name in ROOTS:
            yield name, self.folder / f"{name}.pem"

    def create(self, *, now: datetime, days: int) -> list[Path]:
        """Make the roots and return their files; raise Conflict if there is one already."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for _, file in self.roots():
            if file.exists() or file.with_suffix(".key").exists():
                raise Conflict(f"{file} exists; an authority is made once")
        made = []
        for name, file in self.roots():
            root = ca.new_root(
                name=f"{self.operator} {name}"[:64], operator=self.operator, now=now, days=days
            )
            write_secret(file.with_suffix(".key"), ca.key_pem(root.key))
            file.write_text(root.pem, encoding="ascii")
            made.append(file)
        return made

    def load(self, name: str) -> ca.Authority:
        """Return a root; raise OSError, or InvalidInput for files that do not fit."""
        file = self.folder / f"{name}.pem"
        return ca.authority_from(
            file.read_text(encoding="ascii"),
            file.with_suffix(".key").read_text(encoding="ascii"),
        )

    async def sign(
        self, request_pem: str, *, kind: str, names: Sequence[str], now: datetime
    ) -> str:
        """Return the chain (PEM, the station's own first) for a station's request.

        `names` are the identity and serial number of the station. Raises InvalidInput for a
        request that may not be signed, ProviderError if the authority cannot be reached.
        """

        def work() -> str:
            root = self.load(_ROOT_OF[kind])
            request = ca.checked_request(
                request_pem, names=names, operator=self.operator if kind == STATION else ""
            )
            made = ca.station_certificate(root, request, now=now, days=self.days)
            return ca.pem_of(made) + root.pem

        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            raise ProviderError(f"certificate authority: {error}") from error

    def issue_server(
        self, hosts: Sequence[str], *, kind: str, now: datetime, days: int
    ) -> tuple[str, str]:
        """Return chain and key (PEM) for the station port; `kind` is "ec" or "rsa"."""
        key = ca.new_key(kind)
        root = self.load(CSMS_ROOT)
        made = ca.server_certificate(root, hosts, key, operator=self.operator, now=now, days=days)
        return ca.pem_of(made) + root.pem, ca.key_pem(key)


def write_secret(path: Path, text: str) -> None:
    """Write a new file that nobody else can read; raise FileExistsError if it exists."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as out:
        out.write(text)
