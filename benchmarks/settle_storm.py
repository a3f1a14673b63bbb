"""CPU per station of fitting guards while a whole site boots: `python -m benchmarks.settle_storm`.

Only the guards are measured: reading the site's EVSEs and sharing the power out, for as many
stations as boot, in the order of a storm. "alone" is what each station did by itself before.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from csms.core.model import Evse, Site, Station
from csms.planning.guard import guards
from csms.service.guard_book import GuardBook
from csms.store import stations
from csms.store.database import Store
from csms.store.statements import Tx

SITE = "depot"


def fill(tx: Tx, count: int) -> None:
    """Store a site with `count` stations of two EVSEs each."""
    stations.upsert_site(tx, Site(site_id=SITE, limit_kw=count * 5.0))
    for number in range(count):
        station_id = f"CS-{number:05}"
        stations.register_station(tx, Station(station_id=station_id, site_id=SITE))
        for evse_id in (1, 2):
            stations.upsert_evse(tx, Evse(station_id=station_id, evse_id=evse_id, max_kw=22.0))


async def alone(store: Store, station_id: str) -> int:
    """Fit one station's guards as if no other booted."""

    def work(tx: Tx) -> int:
        site, evses = stations.get_site(tx, SITE), stations.evses_of_site(tx, SITE)
        return sum(g.station_id == station_id for g in guards(site, evses))

    return await store.read(work)


async def measured(count: int, over_s: float) -> dict[str, float]:
    """Return CPU milliseconds per station, each by itself and together."""
    with tempfile.TemporaryDirectory() as folder:
        store = await Store.open(f"sqlite:///{Path(folder) / 'storm.sqlite3'}")
        await store.write(lambda tx: fill(tx, count))
        sample = min(count, 20)
        began = time.process_time()
        for number in range(sample):
            assert await alone(store, f"CS-{number:05}") == 2
        each_ms = (time.process_time() - began) / sample * 1000
        book = GuardBook(store)

        async def boot(number: int) -> None:
            await asyncio.sleep(over_s * number / count)
            assert len(await book.of_station(SITE, f"CS-{number:05}")) == 2

        began = time.process_time()
        await asyncio.gather(*(boot(number) for number in range(count)))
        together_ms = (time.process_time() - began) / count * 1000
        await store.close()
    return {
        "stations": count,
        "alone_ms": each_ms,
        "together_ms": together_ms,
        "looks": book.looks,
        "fits": book.fits,
    }


def main() -> None:
    """Print one line per size."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.settle_storm", description=__doc__)
    parser.add_argument("counts", nargs="*", type=int, default=[100, 500, 2000])
    parser.add_argument("--over-s", type=float, default=10.0, help="how long the storm lasts")
    given = parser.parse_args()
    for count in given.counts:
        found = asyncio.run(measured(count, given.over_s))
        print(
            f"{found['stations']:6.0f} stations  alone {found['alone_ms']:8.2f} ms  "
            f"together {found['together_ms']:6.2f} ms  "
            f"({found['looks']:.0f} looks, {found['fits']:.0f} fits)"
        )


if __name__ == "__main__":
    main()
