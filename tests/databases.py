"""Fixtures of an empty store on each database: SQLite, and PostgreSQL where one answers.

PostgreSQL is the server of TASCO_TEST_POSTGRES_URL, or one on loopback that trusts us. Every run
makes a database of its own, empties it before each test, and drops it in the end.
"""

import os
import uuid
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import make_url

from csms.store import tables
from csms.store.schema import migrate

LOCAL = ("postgresql://postgres@127.0.0.1:5432/postgres", "postgresql://root@127.0.0.1/postgres")


def _answering() -> str:
    given = os.environ.get("TASCO_TEST_POSTGRES_URL")
    if given:
        # Asked for by name: a server that does not answer is a failure, not a reason to skip.
        psycopg.connect(given, connect_timeout=5).close()
        return given
    for url in LOCAL:
        try:
            psycopg.connect(url, connect_timeout=1).close()
        except psycopg.OperationalError:
            continue
        return url
    return ""


def _run(server: str, *statements: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture(scope="session")
def postgres_server() -> str:
    """Return the URL of a PostgreSQL server on which databases may be made."""
    url = _answering()
    if not url:
        pytest.skip("no PostgreSQL: set TASCO_TEST_POSTGRES_URL, or run one on 127.0.0.1:5432")
    return url


@pytest.fixture(scope="session")
def postgres_database(postgres_server: str) -> Iterator[tuple[str, str]]:
    """Yield the URL of a database for this run and the revision of its schema."""
    name = f"tasco_test_{uuid.uuid4().hex[:12]}"
    _run(postgres_server, f"CREATE DATABASE {name}")
    url = _url_of(postgres_server, name)
    yield url, migrate(url)
    _run(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgres_url(postgres_database: tuple[str, str]) -> str:
    """Return the URL of an empty PostgreSQL store."""
    url, revision = postgres_database
    # Deleting from empty tables takes milliseconds; a database of its own, or TRUNCATE, a second.
    emptied = "; ".join(
        f'DELETE FROM "{table.name}"'
        for table in reversed(tables.metadata.sorted_tables)
        if table is not tables.probe
    )
    _run(url, f"{emptied}; UPDATE alembic_version SET version_num = '{revision}'")
    return url


def _url_of(server: str, name: str) -> str:
    return make_url(server).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of an empty store, once on each database."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    return str(request.getfixturevalue(name))


def pace(database_url: str, speed: float) -> float:
    """Return how many times as fast as real a test may live on this database.

    At 600 times, a commit of a tenth of a second lasts a minute of the stations' time: more than
    PostgreSQL always keeps on a busy machine.
    """
    return speed if database_url.startswith("sqlite") else speed / 5
