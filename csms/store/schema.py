"""Bring a database's schema up to date, with the migrations that are part of this package."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

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
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    head = scripts.get_current_head()
    if head is None:
        raise ConfigError(f"no migrations in {MIGRATIONS}; the installation is incomplete")
    with engine.connect() as connection:
        # Nodes that start together must not migrate together.
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(text("SET LOCAL lock_timeout = '60s'"))
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _PG_LOCK})
        current = MigrationContext.configure(connection).get_current_revision()
        if current != head:
            known = {script.revision for script in scripts.walk_revisions()}
            if current is not None and current not in known:
                raise ConfigError(
                    f"[store] the database has schema {current}, newer than {head}, the newest"
                    " this version knows; run the version that wrote it, or a later one"
                )
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        connection.commit()
    return head
