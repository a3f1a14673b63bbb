"""docs/conformance.md says which test covers which case; nothing but a test may say so."""

import subprocess
import sys

import pytest

from tests.conformance import listing


def test_the_page_names_the_tests_that_pytest_collects() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.conformance", "--check"],
        cwd=listing.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (
        f"docs/conformance.md is not what `python -m tests.conformance` writes {done.stderr}"
    )


def test_the_list_holds_every_case_once() -> None:
    lines = (listing.ROOT / "tests/conformance/cases.csv").read_text().splitlines()
    assert len(lines) - 1 == len(listing.cases()) == 395


@pytest.mark.parametrize(
    ("name", "marked", "cases"),
    [
        ("test_a07_new_password", (), ("A07",)),
        ("test_r02_r03_no_common_subprotocol", ("R03", "S58"), ("R02", "R03", "S58")),
        ("test_a_station_that_is_slow", (), ()),
    ],
)
def test_a_test_covers_the_cases_of_its_name_and_its_markers(
    name: str, marked: tuple[str, ...], cases: tuple[str, ...]
) -> None:
    assert listing.cases_of(name, marked) == cases


@pytest.mark.parametrize(("name", "marked"), [("test_a99_something", ()), ("test_x", ("Z01",))])
def test_a_case_that_the_list_does_not_hold_is_refused(name: str, marked: tuple[str, ...]) -> None:
    with pytest.raises(listing.UnknownCase, match="has no such case"):
        listing.cases_of(name, marked)


def test_a_case_with_a_failed_test_has_not_passed() -> None:
    told = listing.table({"E01"}, {"E02"}).splitlines()
    (row,) = [line for line in told if line.startswith("E ")]
    assert row.split()[-5:] == ["30", "1", "1", "0", "28"]
