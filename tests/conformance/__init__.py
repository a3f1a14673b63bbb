"""Rows of the list of conformance cases, each a test that carries its id (docs/conformance.md).

`listing` reads the list, `plugin` tells pytest which test carries which row, and
`python -m tests.conformance` writes docs/conformance.md.
"""
