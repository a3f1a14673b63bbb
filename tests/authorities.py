"""An authority of our own, and server certificates that it gave, as files."""

from datetime import UTC, datetime
from pathlib import Path

from csms.service.authority import LocalAuthority, write_secret

OPERATOR = "Depot Operator"


def an_authority(folder: Path, *, days: int = 30) -> LocalAuthority:
    """Return an authority with its roots in a folder of `folder`."""
    made = LocalAuthority(folder=folder / "ca", operator=OPERATOR)
    made.create(now=datetime.now(UTC), days=days)
    return made


def server_files(
    authority: LocalAuthority, folder: Path, kind: str = "ec", *, days: int = 9
) -> tuple[Path, Path]:
    """Return the chain and the key, "ec" or "rsa", of a server on this machine."""
    hosts = ["localhost", "127.0.0.1"]
    chain, key = authority.issue_server(hosts, kind=kind, now=datetime.now(UTC), days=days)
    chain_file, key_file = folder / f"server-{kind}.pem", folder / f"server-{kind}.key"
    chain_file.write_text(chain)
    write_secret(key_file, key)
    return chain_file, key_file
