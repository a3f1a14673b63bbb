"""The schema's history; Alembic reads this directory, nothing imports it."""
