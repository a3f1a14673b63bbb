"""What leaves this repository: a wheel that holds everything, files that name no one's machine."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

NOT_SHIPPED = {".gitignore", ".gitattributes"}


def _tracked() -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as an installer would, offline, and unpack it."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("tasco-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_the_wheel_holds_every_tracked_file_of_its_packages(unpacked: Path) -> None:
    ours = [p.relative_to(ROOT) for p in _tracked() if p.name not in NOT_SHIPPED]
    wanted = {p for p in ours if p.parts[0] in ("csms", "simulators")}
    assert {p.suffix for p in wanted} >= {".py"}
    missing = sorted(str(p) for p in wanted if not (unpacked / p).is_file())
    assert not missing


def test_the_wheel_holds_nothing_beside_its_packages(unpacked: Path) -> None:
    tops = {p.name for p in unpacked.iterdir() if not p.name.endswith(".dist-info")}
    assert tops == {"csms", "simulators"}


def test_the_program_runs_from_the_unpacked_wheel(unpacked: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(unpacked), "COLUMNS": "100"}
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            "import csms, sys, runpy; print(csms.__path__[0], file=sys.stderr);"
            "sys.argv = ['tasco', '--help']; runpy.run_module('csms', run_name='__main__')",
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.strip() == str(unpacked / "csms"), "ran from somewhere else"
    assert "serve" in ran.stdout
    assert "demo" in ran.stdout


def test_the_locks_pin_every_package_with_hashes() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        blocks = re.split(r"\n(?=[a-z0-9])", (ROOT / name).read_text())
        assert len(blocks) > 40
        for block in blocks:
            assert re.match(r"[a-z0-9_.\-\[\]]+==\S+", block), f"{name}: {block[:80]}"
            assert "--hash=sha256:" in block, f"{name}: {block[:80]}"


def test_the_locks_agree_on_versions() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^[a-z0-9_.\-\[\]]+==.*(?= \\$)", (ROOT / name).read_text(), re.M))

    assert pins("requirements.lock") <= pins("requirements-dev.lock")


def test_the_locks_cover_every_declared_dependency() -> None:
    declared = re.search(
        r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S
    )
    assert declared is not None
    names = re.findall(r'^\s+"([a-z0-9-]+)', declared[1], re.M)
    assert "websockets" in names
    lock = (ROOT / "requirements.lock").read_text()
    missing = [n for n in names if not re.search(rf"^{n}(\[\w+\])?==", lock, re.M)]
    assert not missing, "run `make lock`"


# Written in pieces, or this file would be the first to be found.
REGISTRIES = ["pypi" + r"\.org", "python" + "hosted", "npmjs" + r"\.(org|com)", "debian" + r"\.org"]
MACHINES = ["/" + "work/", "/" + "root/", "/" + "tmp/v", "/" + "home/[a-z]", "/" + "opt/pypi"]


def _own_registries() -> list[str]:
    """Return the hosts that pip is configured to ask on this machine."""
    configured = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True
    ).stdout
    settings = configured + "".join(v for k, v in os.environ.items() if "INDEX" in k)
    return [re.escape(host) for host in re.findall(r"https?://(?:[^/@\s]*@)?([\w.\-]+)", settings)]


def test_no_tracked_file_names_a_registry_or_a_path_of_somebodys_machine() -> None:
    hosts = "|".join(REGISTRIES + _own_registries())
    forbidden = re.compile(rf"{hosts}|(?<![\w.~/\-])(?:{'|'.join(MACHINES)})".encode())
    found = []
    for path in _tracked():
        for match in forbidden.finditer(path.read_bytes()):
            found.append(f"{path.relative_to(ROOT)}: {match[0].decode()}")
    assert not found


def test_the_search_for_machine_paths_finds_one(tmp_path: Path) -> None:
    pattern = re.compile("|".join(REGISTRIES + MACHINES))
    for sample in ("https://" + "pypi" + ".org/simple", "/" + "work/main/csms", "/" + "tmp/vx"):
        assert pattern.search(sample)
