"""`tasco ca`: an authority made once, keys that only their owner can read, and what it signs."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from csms.identity import ca
from csms.identity.certificates import certificates_in
from tests.conformance.secure import csr

CONFIG = """
[gateway]
tls_certificate_file = "ca/server-ec.pem"
tls_key_file = "ca/server-ec.key"
tls_rsa_certificate_file = "ca/server-rsa.pem"
tls_rsa_key_file = "ca/server-rsa.key"
[security]
operator = "Depot Operator"
ca_folder = "ca"
"""


def tasco(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in `folder`."""
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-m", "csms", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.toml").write_text(CONFIG)
    assert tasco(tmp_path, "ca", "init").returncode == 0
    assert tasco(tmp_path, "ca", "server", "localhost", "127.0.0.1").returncode == 0
    return tmp_path


def test_an_authority_is_made_once_and_its_keys_are_its_owners(folder: Path) -> None:
    keys = sorted((folder / "ca").glob("*.key"))
    assert len(keys) == 5
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert tasco(folder, "check").returncode == 0
    again = tasco(folder, "ca", "init")
    assert again.returncode == 2
    assert "an authority is made once" in again.stderr
    keys[0].chmod(0o644)
    refused = tasco(folder, "check")
    assert refused.returncode == 2
    assert "chmod 600" in refused.stderr


def test_a_request_is_signed_for_its_station_and_for_no_other(folder: Path) -> None:
    request = csr("CS-1", ca.new_key("ec"), operator="Depot Operator")
    (folder / "request.pem").write_bytes(request.public_bytes(Encoding.PEM))
    signed = tasco(folder, "ca", "sign", "request.pem", "--station", "CS-1")
    assert signed.returncode == 0, signed.stderr
    own, root = certificates_in(signed.stdout)
    own.verify_directly_issued_by(root)
    assert own.public_key() == request.public_key()
    assert isinstance(own, x509.Certificate)
    other = tasco(folder, "ca", "sign", "request.pem", "--station", "CS-2")
    assert other.returncode == 2
    assert "is not this station" in other.stderr
