"""What a scrape shows of OCPP calls."""

from csms.telemetry import Metrics


def test_calls_are_shown_by_outcome_and_by_the_time_they_took() -> None:
    metrics = Metrics()
    for seconds in (0.0004, 0.001, 0.02, 60.0):
        metrics.calls.count("in", "1.6", "MeterValues", "answered", seconds)
    metrics.calls.count("out", "2.0.1", "Reset", "accepted", 0.3)
    shown = metrics.registry.get_sample_value
    call = {"direction": "in", "version": "1.6", "action": "MeterValues", "outcome": "answered"}
    assert shown("tasco_ocpp_calls_total", call) == 4
    lasted = "tasco_ocpp_call_duration_seconds"
    below = {
        edge: shown(f"{lasted}_bucket", {"direction": "in", "le": edge})
        for edge in ("0.001", "0.01", "0.05", "15.0", "+Inf")
    }
    # As the format wants it: each bucket holds what took as long as its edge or less.
    assert below == {"0.001": 2, "0.01": 2, "0.05": 3, "15.0": 3, "+Inf": 4}
    assert shown(f"{lasted}_count", {"direction": "in"}) == 4
    assert shown(f"{lasted}_sum", {"direction": "out"}) == 0.3
