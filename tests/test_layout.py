"""The import table: which package may import which. A new edge is a design decision."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

ANYTHING = frozenset({"*"})
PURE = {"core", "identity", "planning"}
LEAVES = {"clock", "settings", "settings_sites", "tasks", "telemetry"}

OWN: dict[str, frozenset[str]] = {
    "core": frozenset(),
    "identity": frozenset({"core"}),
    "planning": frozenset({"core"}),
    "store": frozenset({"core"}),
    "bus": frozenset({"core"}),
    "gateway": frozenset({"core", "bus"}),
    "providers": frozenset({"core", "identity"}),
    "service": frozenset({"core", "identity", "planning", "store", "bus"}),
    "api": frozenset({"core", "store", "service"}),
    "clock": frozenset(),
    "tasks": frozenset(),
    "settings": frozenset({"core"}),
    "settings_sites": frozenset({"core"}),
    "telemetry": frozenset({"core"}),
    "app": ANYTHING,
    "assembly": ANYTHING,
    "opening": ANYTHING,
    "gateway_setup": ANYTHING,
    "bus_setup": ANYTHING,
    "process": ANYTHING,
    "status_port": ANYTHING,
    "gateway_node": ANYTHING,
    "central_node": ANYTHING,
    "cli": ANYTHING,
    "cli_credentials": ANYTHING,
    "cli_devices": ANYTHING,
    "cli_metering": ANYTHING,
    "cli_parts": ANYTHING,
    "cli_security": ANYTHING,
    "demo": ANYTHING,
    "demo_result": ANYTHING,
    "demo_site": ANYTHING,
    "tools": ANYTHING,
    "replay": ANYTHING,
    "replay_day": ANYTHING,
    "replay_past": ANYTHING,
    "cli_replay": ANYTHING,
    "security": ANYTHING,
    "__main__": ANYTHING,
}

THIRD_PARTY: dict[str, frozenset[str]] = {
    "core": frozenset(),
    "identity": frozenset({"cryptography", "joserfc"}),
    "planning": frozenset({"numpy", "pandas", "sklearn", "highspy"}),
    "store": frozenset({"sqlalchemy", "alembic"}),
    "bus": frozenset({"pydantic", "nats"}),
    "gateway": frozenset({"ocpp", "websockets", "jsonschema_rs", "orjson"}),
    "providers": frozenset({"httpx", "pydantic"}),
    "service": frozenset({"apscheduler", "argon2", "structlog"}),
    "api": frozenset({"fastapi", "pydantic", "starlette", "structlog"}),
    "clock": frozenset(),
    "tasks": frozenset(),
    "settings": frozenset({"pydantic", "pydantic_settings"}),
    "settings_sites": frozenset({"pydantic"}),
    "telemetry": frozenset({"structlog", "prometheus_client"}),
    "app": ANYTHING,
    "assembly": ANYTHING,
    "opening": ANYTHING,
    "gateway_setup": ANYTHING,
    "bus_setup": ANYTHING,
    "process": ANYTHING,
    "status_port": ANYTHING,
    "gateway_node": ANYTHING,
    "central_node": ANYTHING,
    "cli": ANYTHING,
    "cli_credentials": ANYTHING,
    "cli_devices": ANYTHING,
    "cli_metering": ANYTHING,
    "cli_parts": ANYTHING,
    "cli_security": ANYTHING,
    "demo": ANYTHING,
    "demo_result": ANYTHING,
    "demo_site": ANYTHING,
    "tools": ANYTHING,
    "replay": ANYTHING,
    "replay_day": ANYTHING,
    "replay_past": ANYTHING,
    "cli_replay": ANYTHING,
    "security": ANYTHING,
    "__main__": ANYTHING,
}

ONLY_IN: dict[str, str] = {
    "apscheduler": "csms/service/jobs.py",
    "nats": "csms/bus/nats.py",
}

SIMULATORS_THIRD_PARTY = {"websockets", "uvloop"}


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            yield module
            if module == "csms":
                yield from (f"csms.{alias.name}" for alias in node.names)


def _package(path: Path) -> str:
    parts = path.relative_to(ROOT / "csms").parts
    return parts[0] if len(parts) > 1 else path.stem


MODULES = sorted((ROOT / "csms").rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_imports_only_what_the_table_allows(path: Path) -> None:
    package = _package(path)
    if package == "__init__":
        return
    own, third = OWN[package], THIRD_PARTY[package]
    for name in _imports(path):
        top = name.split(".")[0]
        if top == "csms":
            target = name.split(".")[1] if "." in name else ""
            allowed = own | {package} | (frozenset() if package in PURE else LEAVES)
            assert not target or "*" in own or target in allowed, (
                f"{path.relative_to(ROOT)} imports {name}; {package} may import {sorted(allowed)}"
            )
        elif top not in sys.stdlib_module_names:
            assert "*" in third or top in third, (
                f"{path.relative_to(ROOT)} imports {name}; {package} may import {sorted(third)}"
            )
            home = ONLY_IN.get(top)
            assert home is None or path == ROOT / home, f"{name} belongs in {home} only"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "simulators").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_the_simulators_import_nothing_of_the_central_system(path: Path) -> None:
    for name in _imports(path):
        top = name.split(".")[0]
        assert top != "csms", f"{path.name} imports {name}"
        assert top in sys.stdlib_module_names or top in SIMULATORS_THIRD_PARTY | {"simulators"}, (
            f"{path.name} imports {name}; simulators may import {sorted(SIMULATORS_THIRD_PARTY)}"
        )
