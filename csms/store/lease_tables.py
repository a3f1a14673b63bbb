"""The schema of what only one process may do at a time."""

from sqlalchemy import Table

from csms.store.columns import int_column, metadata, text_column

lease = Table(
    "lease",
    metadata,
    text_column("name", primary_key=True),
    text_column("holder"),
    int_column("beats"),
)
"""Who does a thing, and how often that was said; no instant, since two machines' clocks differ."""
