"""The operator HTTP API and the static pages."""
