"""From a provider's options to its answers for a stretch of time."""

import asyncio
from datetime import datetime

from csms.core.errors import ProviderError
from csms.providers.fetch import Fetcher
from csms.providers.options import HttpAccess


async def ask(
    options: HttpAccess,
    usual_url: str,
    start: datetime,
    until: datetime,
    *,
    provider: str,
    fetcher: Fetcher,
    query: str = "",
) -> list[object]:
    """Return the JSON answers for [start, until), without those that hold nothing yet (204).

    One call, or one per market day where the address names a day. `query` is POSTed as GraphQL.
    """
    if until <= start:
        return []
    try:
        headers = await asyncio.to_thread(options.headers)
    except (OSError, UnicodeDecodeError) as error:
        raise ProviderError(f"{provider}: token_file cannot be read: {error}") from error
    answers = []
    for url in options.addresses(options.url or usual_url, start, until):
        answer = await fetcher.json(
            url,
            provider=provider,
            access=options.access(),
            headers=headers,
            body={"query": query} if query else None,
        )
        if answer is not None:
            answers.append(answer)
    return answers
