"""The pages: plain files, nothing from other hosts, nothing inline."""

import re
from pathlib import Path

import pytest

from csms.api.app import WEB
from tests.api.conftest import Operator

FILES = sorted(p for p in WEB.rglob("*") if p.is_file())
NAMESPACES = ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xhtml")


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_no_file_refers_to_another_host(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for namespace in NAMESPACES:
        text = text.replace(namespace, "")
    assert not re.search(r"\b(?:https?|wss?):", text)
    assert not re.search(r"""["'(]//""", text)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_text_reaches_the_page_as_text_only(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert way not in text


def test_pages_hold_no_inline_script_or_style() -> None:
    for path in WEB.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"<style|\sstyle=|\son\w+=", text)
        for script in re.findall(r"<script[^>]*>[^<]*</script>", text):
            assert "src=" in script
            assert script.endswith("></script>")


async def test_the_first_page_and_all_it_loads_are_served(operator: Operator) -> None:
    page = await operator.anonymous.get("/")
    assert page.status_code == 200
    assert "text/html" in page.headers["content-type"]
    assert page.headers["cache-control"] == "no-cache"
    for path in FILES:
        answer = await operator.anonymous.get(f"/{path.relative_to(WEB)}")
        assert answer.status_code == 200
        assert answer.content == path.read_bytes()
    scripts = (await operator.anonymous.get("/app.js")).headers["content-type"]
    assert "javascript" in scripts


@pytest.mark.parametrize(
    "path", ["/../app.py", "/%2e%2e/app.py", "/..%2fapi/app.py", "/../../pyproject.toml"]
)
async def test_nothing_outside_the_folder_is_served(operator: Operator, path: str) -> None:
    assert (await operator.anonymous.get(path)).status_code == 404
