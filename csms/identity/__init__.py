"""Who may charge: DIDs, aliases, credentials and the decision, as pure functions."""
