"""How long to fuzz, in seeded turns, and what no turn may leave behind: an error in the log."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from csms.core.model import OcppVersion

FUZZ_S: Final = float(os.environ.get("TASCO_TEST_FUZZ_S", "6"))
WAIT_S: Final = 20.0
_EXAMPLES: Final = 40


class Errors(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(self.format(record))


@contextmanager
def watched() -> Iterator[Errors]:
    """Watch what is logged while the block lasts."""
    errors = Errors()
    logging.getLogger().addHandler(errors)
    try:
        yield errors
    finally:
        logging.getLogger().removeHandler(errors)


def fuzzed(made: SearchStrategy[Any], exchange: Callable[[Any], None], errors: Errors) -> int:
    """Hand what is `made` to `exchange` for a version's share of FUZZ_S; return how often."""
    ends_at = time.monotonic() + FUZZ_S / len(OcppVersion)
    turn = 0

    def fuzz(turn: int) -> None:
        @seed(turn)
        @settings(
            max_examples=_EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(made)
        def run(one: Any) -> None:
            exchange(one)
            assert not errors.seen, errors.seen[0]

        run()

    while turn == 0 or time.monotonic() < ends_at:
        turn += 1
        fuzz(turn)
    return turn * _EXAMPLES
