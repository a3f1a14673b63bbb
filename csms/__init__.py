"""TASCO, the Trip-Aware Smart Charging Orchestrator: an OCPP central system."""
