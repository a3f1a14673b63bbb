"""Pytest's part of the conformance table: which test carries which case, and what passed."""

import re
from collections.abc import Iterable, Iterator, Sequence

import pytest

from tests.conformance import listing

NEVER_TOLD = re.compile(
    r"Traceback"
    # A whole id token (tests.scenarios.world.card_of), a credential, a key, a stored hash.
    r"|04A1B2C3D4E5[0-9A-F]{2}"
    r"|Basic [A-Za-z0-9+/]{12,}"
    r"|Bearer \S{12,}"
    r"|PRIVATE KEY-----"
    r"|\$argon2"
)
"""What no log may hold: rule 4 of every case."""


@pytest.fixture(autouse=True)
def _quiet_log(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail where the log of a test that carries a case shows a fault or a secret."""
    carries = any(key == "case" for key, _ in request.node.user_properties)
    if not (carries or "tests/conformance/" in request.node.nodeid) or "capfd" in (
        request.fixturenames
    ):
        yield
        return
    capsys = request.getfixturevalue("capsys")
    caplog = request.getfixturevalue("caplog")
    yield
    told = capsys.readouterr()
    for text in (told.out, told.err, caplog.text):
        found = NEVER_TOLD.search(text)
        assert found is None, f"the log tells {found and found[0]!r}: {text}"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --conformance."""
    parser.addoption(
        "--conformance",
        action="store_true",
        help="run only the tests that carry a conformance case, and print the table",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the cases of each test into its user properties, which travel between workers."""
    for item in items:
        marked = (str(i) for mark in item.iter_markers("case") for i in mark.args)
        try:
            cases = listing.cases_of(getattr(item, "originalname", item.name), marked)
        except listing.UnknownCase as error:
            raise pytest.UsageError(f"{item.nodeid}: {error}") from error
        item.user_properties += [("case", case) for case in cases]
    if config.getoption("conformance"):
        kept = [i for i in items if any(key == "case" for key, _ in i.user_properties)]
        config.hook.pytest_deselected(items=[i for i in items if i not in kept])
        items[:] = kept


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table after a run of all tests or with --conformance."""
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    is_filtered = config.getoption("keyword") or config.getoption("markexpr")
    if config.getoption("collectonly") or not (
        config.getoption("conformance") or (is_whole and not is_filtered)
    ):
        return
    reports: Sequence[pytest.TestReport] = [
        report
        for outcome in ("passed", "failed", "skipped", "error")
        for report in terminalreporter.stats.get(outcome, ())
        if isinstance(report, pytest.TestReport)
    ]
    passed = _cases(r for r in reports if r.when == "call" and r.passed)
    failed = _cases(r for r in reports if not r.passed)
    terminalreporter.section("conformance cases")
    terminalreporter.write_line(listing.table(passed - failed, failed))


def _cases(reports: Iterable[pytest.TestReport]) -> set[str]:
    return {str(case) for r in reports for key, case in r.user_properties if key == "case"}
