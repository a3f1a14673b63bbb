"""Write docs/conformance.md from what pytest collects, or with --check say whether it is so."""

import argparse
import contextlib
import io
import sys
from collections import defaultdict

import pytest

from tests.conformance import listing


class _Collector:
    def __init__(self) -> None:
        self.covered: dict[str, set[str]] = defaultdict(set)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            for key, case in item.user_properties:
                if key == "case":
                    self.covered[str(case)].add(item.nodeid.partition("[")[0])


def collected() -> dict[str, set[str]]:
    """Return the tests of each case, by collecting all tests in this process."""
    collector = _Collector()
    told = io.StringIO()
    arguments = ["--collect-only", "-q", "-p", "no:cacheprovider", str(listing.ROOT / "tests")]
    with contextlib.redirect_stdout(told):
        code = pytest.main(arguments, plugins=[collector])
    if code != pytest.ExitCode.OK:
        raise SystemExit(told.getvalue()[-4000:])
    return collector.covered


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if it differs")
    page = listing.page(collected())
    if parser.parse_args().check:
        return int(page != listing.PAGE.read_text(encoding="utf-8"))
    listing.PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
