"""Needs, forecasts, joint plans and charging-schedule periods, as pure functions."""
