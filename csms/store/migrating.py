"""Runs migrations on an open connection: all that needs Alembic, loaded only if one is due."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def run(connection: Connection, migrations: Path) -> None:
    """Bring the schema behind `connection` to the newest revision, inside its transaction."""
    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
