"""The list of conformance cases (cases.csv), which test covers which, and what is printed of it.

A case is covered by each test whose name begins with its id (`test_a07_...`, `test_r02_r03_...`)
or that carries the marker `case` with it. It has passed when every such test has passed, in all
its parameters. docs/conformance.md names the tests; only a run says what passed.
"""

import csv
import re
import tomllib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
UNSUPPORTED = ROOT / "docs" / "conformance-unsupported.toml"
PAGE = ROOT / "docs" / "conformance.md"
_NAMED = re.compile(r"test_((?:[a-z]\d\d_)+)")


class UnknownCase(Exception):
    """A test names a case that the list does not hold."""


@dataclass(frozen=True)
class Case:
    """A row of the list; `octt` is the certification tool's name, empty for a row of ours."""

    id: str
    version: str
    subject: str
    octt: str
    what: str
    passes_when: str

    @property
    def block(self) -> str:
        """The letter of the id with the subject and the version: a line of the table."""
        return f"{self.id[0]} {self.subject} ({self.version})"


@cache
def cases() -> Mapping[str, Case]:
    """Return every row by its id, in the order of the list."""
    with (Path(__file__).parent / "cases.csv").open(encoding="utf-8", newline="") as file:
        return {
            row["case"]: Case(
                id=row["case"],
                version=row["version"],
                subject=row["subject"],
                octt=row["octt"],
                what=row["what"],
                passes_when=row["passes_when"],
            )
            for row in csv.DictReader(file)
        }


def unsupported() -> Mapping[str, str]:
    """Return what a station gets instead, and why, by the case that we decided not to support."""
    table: dict[str, str] = tomllib.loads(UNSUPPORTED.read_text(encoding="utf-8"))
    if unknown := table.keys() - cases().keys():
        raise UnknownCase(f"{UNSUPPORTED.name}: no such cases: {', '.join(sorted(unknown))}")
    return table


def cases_of(test_name: str, marked: Iterable[str]) -> tuple[str, ...]:
    """Return the cases of a test from its name and its markers.

    Raises UnknownCase for an id that the list does not hold.
    """
    named = _NAMED.match(test_name)
    ids = [*(named.group(1).upper().strip("_").split("_") if named else ()), *marked]
    if unknown := [i for i in ids if i not in cases()]:
        raise UnknownCase(
            f"{test_name} names {', '.join(unknown)}: tests/conformance/cases.csv has no such case"
        )
    return tuple(dict.fromkeys(ids))


def table(passed: Collection[str], failed: Collection[str]) -> str:
    """Return the table of a run per block: cases, passed, failed, served otherwise, open."""
    instead = unsupported()
    rows: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])
    for case in cases().values():
        state = 4
        if case.id in failed:
            state = 2
        elif case.id in passed:
            state = 1
        elif case.id in instead:
            state = 3
        for row in (rows[case.block], rows["all"]):
            row[0] += 1
            row[state] += 1
    total = rows.pop("all")
    width = max(map(len, rows))
    lines = [f"{'block':{width}} cases passed failed otherwise open"]
    for name, counts in [*rows.items(), ("all", total)]:
        figures = (f"{n:{w}}" for n, w in zip(counts, (5, 6, 6, 9, 4), strict=True))
        lines.append(f"{name:{width}} {' '.join(figures)}")
    return "\n".join(lines)


def page(covered: Mapping[str, Collection[str]]) -> str:
    """Return docs/conformance.md: for each case the tests of `covered`, the answer, or "open"."""
    instead = unsupported()
    if both := sorted(set(instead) & set(covered)):
        raise UnknownCase(f"{UNSUPPORTED.name} gives up cases that have a test: {', '.join(both)}")
    blocks: dict[str, list[Case]] = defaultdict(list)
    for case in cases().values():
        blocks[case.block].append(case)
    lines = [_HEAD.rstrip(), "", "| block | cases | with a test | served otherwise | open |"]
    lines.append("|---|---|---|---|---|")
    for name, rows in [*blocks.items(), ("all", list(cases().values()))]:
        tested = sum(c.id in covered for c in rows)
        other = sum(c.id in instead for c in rows)
        rest = len(rows) - tested - other
        lines.append(f"| {name} | {len(rows)} | {tested} | {other} | {rest} |")
    for name, rows in blocks.items():
        lines += ["", f"## {name}", "", "| case | OCTT | what | test |", "|---|---|---|---|"]
        for case in rows:
            tests = ", ".join(f"`{t}`" for t in sorted(covered.get(case.id, ())))
            told = tests or _cell(instead.get(case.id, "open"))
            lines.append(f"| {case.id} | {case.octt or 'own'} | {_cell(case.what)} | {told} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


_HEAD = """\
# Conformance cases

What a charging station may do to TASCO. Each row is a test over real websockets, or says what a
station gets instead and why. Names beginning `TC_` are those of the OCPP certification tool, the
descriptions are ours; rows marked *own* cover what certification does not ask and stations do
anyway. `make conformance` runs the tests of the rows and prints how many passed per block; this
page is written by it and names the tests.

`S:` the station sends, `C:` TASCO sends, `=>` the answer. BOOT: BootNotification, then the state
of every connector. PLUG: the connector is occupied and the transaction starts with the cable.
AUTH: Authorize, then the transaction is authorised. CHARGE: PLUG and AUTH, then charging.
SUSPEND: CHARGE, then no energy flows. STOPAUTH: Authorize, then StopAuthorized. POST: STOPAUTH,
the cable still in. UNPLUG: the cable is out and the transaction ends. RENEW: a new certificate by
SignCertificate. HLC: charging needs, a profile, the vehicle's schedule. CHARGING: the same in 1.6.
"""
