"""Fixtures for every package: an open store on a file of its own."""

import logging
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from csms.store.database import Store
from csms.store.schema import migrate

pytest_plugins = ["tests.brokers", "tests.conformance.plugin", "tests.databases"]


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a SQLite file with the newest schema and nothing in it, to be copied."""
    path = tmp_path_factory.mktemp("store") / "empty.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what a command sets up: its handler writes to a stream that ends with the test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def sqlite_url(empty_database: Path, tmp_path: Path) -> str:
    """Return the URL of an empty SQLite store in `tmp_path`."""
    path = tmp_path / "tasco.db"
    shutil.copyfile(empty_database, path)
    return f"sqlite:///{path}"


@pytest.fixture
async def store(sqlite_url: str) -> AsyncIterator[Store]:
    """Yield an open store on a SQLite file."""
    store = await Store.open(sqlite_url)
    yield store
    await store.close()
