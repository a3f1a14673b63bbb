"""The pages lead where they say, and name everything that a reader can set."""

import re
from pathlib import Path

import pytest

from csms.core.dialect import ITEMS

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    gone = [to for to in links if "://" not in to and not (page.parent / to).exists()]
    assert gone == []


def test_every_item_of_a_dialect_has_its_meaning_on_the_page() -> None:
    rows = [
        line.split("|")[1]
        for line in (ROOT / "docs/dialects.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(ITEMS) - named == set()
