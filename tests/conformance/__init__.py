"""Rows of the list of conformance cases, each a test that carries its id (docs/conformance.md)."""
