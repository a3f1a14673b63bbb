"""docs/http-api.md lists the paths there are, each with what the code says of it."""

import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import csms.api

DOCS = Path(__file__).parents[2] / "docs" / "http-api.md"


def test_the_documentation_lists_every_path_with_its_summary() -> None:
    served = set()
    for module in iter_modules(csms.api.__path__):
        if module.name.startswith("routes_"):
            for route in import_module(f"csms.api.{module.name}").router.routes:
                methods = "/".join(sorted(route.methods))
                served.add((methods, route.path, route.endpoint.__doc__.strip().split("\n")[0]))
    row = re.compile(r"^\| ([A-Z/]+) \| `([^`]+)` \| (.*) \|$", re.MULTILINE)
    assert set(row.findall(DOCS.read_text(encoding="utf-8"))) == served
