"""Bring a database's schema up to date, with the migrations that are part of this package."""

from importlib import import_module
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from csms.core.errors import ConfigError
from csms.store.connections import parsed, writing_engine

MIGRATIONS = Path(__file__).parent / "migrations"
_PG_LOCK = 0x7A5C0


def migrate(url: str) -> str:
    """Bring the schema of `url` up to date and return its revision; `tasco db upgrade`.

    Raises ConfigError if the database was written by a newer TASCO.
    """
    engine = writing_engine(parsed(url))
    try:
        return upgrade(engine)
    finally:
        engine.dispose()


def upgrade(engine: Engine) -> str:
    """Do what `migrate` does on an engine that may write."""
    known = revisions()
    if not known:
        raise ConfigError(f"no migrations in {MIGRATIONS}; the installation is incomplete")
    head = known[-1]
    with engine.connect() as connection:
        # Nodes that start together must not migrate together.
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(text("SET LOCAL lock_timeout = '60s'"))
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _PG_LOCK})
        current = _revision(connection)
        if current != head:
            if current is not None and current not in known:
                raise ConfigError(
                    f"[store] the database has schema {current}, newer than {head}, the newest"
                    " this version knows; run the version that wrote it, or a later one"
                )
            # Alembic takes 8 MiB, and few starts need it.
            import_module("csms.store.migrating").run(connection, MIGRATIONS)
        connection.commit()
    return head


def revisions() -> list[str]:
    """Return the revision of each migration, the newest last: the number its file begins with."""
    return sorted(
        file.name.partition("_")[0] for file in (MIGRATIONS / "versions").glob("[0-9]*.py")
    )


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found
