"""What a transaction costs its driver: its energy by quarter hour, at the site's tariff."""

from collections.abc import Mapping
from datetime import timedelta

from csms.core.model import Session
from csms.service.reports import PriceList, cost_eur, placed
from csms.store import energy, series, stations
from csms.store.statements import Tx

_AROUND = timedelta(days=2)


class Costs:
    """Costs by tariff. Only tariffs that the operator configured are told to anybody."""

    def __init__(self, tariff_of: Mapping[str, str]) -> None:
        """`tariff_of` maps a site to its configured tariff; other sites have none."""
        self.tariff_of = tariff_of

    def of(self, tx: Tx, session: Session) -> float | None:
        """Return what `session` costs so far, None where its site has no tariff.

        A free site costs 0: an absent cost would mean that it is not known (2.0.1 I03).
        """
        tariff_id = self.tariff_of.get(session.site_id)
        if tariff_id is None:
            return None
        if stations.get_site(tx, session.site_id).free_charging:
            return 0.0
        until = session.ended_at or session.sample_at or session.received_at
        prices = PriceList(
            series.prices(tx, tariff_id, session.started_at - _AROUND, until + _AROUND)
        )
        if not prices:
            return None
        quarters = placed(session, energy.quarters_of(tx, session), now=until)
        return round(cost_eur(quarters, prices), 4)
