"""The migrations make the schema that the tables describe, and refuse what they do not know."""

import importlib.resources

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from csms.core.errors import ConfigError
from csms.store import (
    desk_tables,
    detail_tables,
    device_tables,
    filing_tables,
    lease_tables,
    metering_tables,
    plan_tables,
    rival_tables,
    security_tables,
    smart_tables,
    tables,
    terms_tables,
    wiring_tables,
)
from csms.store.connections import parsed, writing_engine
from csms.store.database import Store
from csms.store.schema import MIGRATIONS, migrate, revisions

_POSTGRESQL_ONLY = "uq_session_event_station_id_transaction_id_seq_no_digest"


def _is_of_both(
    item: object, name: str | None, kind: str, is_reflected: bool, other: object
) -> bool:
    """Leave out the index that SQLite does without; Alembic does not look at `ddl_if`."""
    return is_reflected or name != _POSTGRESQL_ONLY


def test_a_migrated_database_has_the_schema_of_the_tables(database_url: str) -> None:
    engine = writing_engine(parsed(database_url))
    with engine.connect() as connection:
        opts: dict[str, object] = {"compare_type": False}
        if connection.dialect.name == "sqlite":
            opts["include_object"] = _is_of_both
        context = MigrationContext.configure(connection, opts=opts)
        assert compare_metadata(context, tables.metadata) == []
    engine.dispose()


def test_all_modules_of_the_schema_are_in_one_description() -> None:
    assert plan_tables.plan.name in tables.metadata.tables
    assert rival_tables.plan_comparison.name in tables.metadata.tables
    assert device_tables.alert.name in tables.metadata.tables
    assert security_tables.security_event.name in tables.metadata.tables
    assert tables.session.name in tables.metadata.tables
    assert filing_tables.filed.name in tables.metadata.tables
    assert lease_tables.lease.name in tables.metadata.tables
    assert detail_tables.meter_message.name in tables.metadata.tables
    assert terms_tables.session_terms.name in tables.metadata.tables
    assert smart_tables.dialect_item.name in tables.metadata.tables
    assert metering_tables.meter_reading.name in tables.metadata.tables
    assert wiring_tables.circuit.name in tables.metadata.tables
    assert desk_tables.reservation.name in tables.metadata.tables


def test_numbers_are_never_reused_by_sqlite(sqlite_url: str) -> None:
    engine = writing_engine(parsed(sqlite_url))
    with engine.connect() as connection:
        made = dict(
            connection.execute(
                text("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
            ).all()
        )
    engine.dispose()
    for name, table in tables.metadata.tables.items():
        if table.dialect_options["sqlite"]["autoincrement"]:
            assert "AUTOINCREMENT" in made[name], name
        if table.dialect_options["sqlite"]["with_rowid"] is False:
            assert "WITHOUT ROWID" in made[name], name


def test_migrating_twice_changes_nothing(database_url: str) -> None:
    assert migrate(database_url) == migrate(database_url)


def test_every_constraint_is_there(database_url: str) -> None:
    engine = writing_engine(parsed(database_url))
    found = inspect(engine)
    for name, table in tables.metadata.tables.items():
        assert found.get_pk_constraint(name)["constrained_columns"] == [
            column.name for column in table.primary_key
        ], name
    checks = [c["name"] for c in found.get_check_constraints("session")]
    engine.dispose()
    assert checks == ["ck_session_number"]


async def test_a_database_of_a_newer_version_is_refused(database_url: str) -> None:
    engine = writing_engine(parsed(database_url))
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(ConfigError, match="schema 9999, newer than"):
        await Store.open(database_url)
    with pytest.raises(ConfigError, match="run the version that wrote it"):
        migrate(database_url)


def test_a_migration_has_the_number_its_file_begins_with() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert revisions() == [s.revision for s in scripts.walk_revisions()][::-1]


def test_the_migrations_travel_with_the_package() -> None:
    package = importlib.resources.files("csms.store")
    assert package.joinpath("migrations", "env.py").is_file()
    assert package.joinpath("migrations", "versions").is_dir()
