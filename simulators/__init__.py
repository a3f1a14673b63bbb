"""Charging-station and driver simulators; nothing here imports the central system."""
