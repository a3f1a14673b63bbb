"""The outside world behind the protocols of csms.service.sources."""
