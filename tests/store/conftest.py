"""The store's own tests run on SQLite and, where one answers, on PostgreSQL."""

from collections.abc import AsyncIterator

import pytest

from csms.store.database import Store


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    """Yield an open store, once on each database."""
    store = await Store.open(database_url)
    yield store
    await store.close()
