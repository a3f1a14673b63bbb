"""Presets: a named set of a site's planning settings, for the most usual kinds of site.

Whatever a site's own section says wins over its preset.
"""

from collections.abc import Mapping
from typing import Any

from csms.core.model import Strategy

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Known vehicles with trips of their own, all night: nobody comes unannounced, so no room is
    # kept for arrivals and little for cars at stations that are cut off.
    "depot": {
        "strategy": Strategy.OPTIMAL,
        "challenger": Strategy.EARLIEST_DEADLINE,
        "guard_share": 0.1,
        "reserve_quantile": "none",
    },
    # Cars that stay for hours and come in the morning, more than the connection holds at once:
    # the forecast keeps room for them.
    "workplace": {
        "strategy": Strategy.OPTIMAL,
        "challenger": Strategy.LEAST_LAXITY,
        "guard_share": 0.2,
        "reserve_quantile": "p90",
    },
    # Short stays of strangers who say nothing: everyone gets the same, at once, and a station that
    # is cut off still serves whoever comes.
    "retail": {
        "strategy": Strategy.EQUAL_SHARE,
        "challenger": Strategy.OPTIMAL,
        "guard_share": 0.4,
        "reserve_quantile": "none",
    },
}
