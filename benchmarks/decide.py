"""Time of one decision: normalise, look up in 20 000 tokens, decide on three credentials.

    python -m benchmarks.decide [decisions]

Pure work only, as on the Authorize path; the store's look-up is a dict here.
"""

import random
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta

from csms.core.model import AccessPolicy, Credential, Holder, IdToken, Site, TokenRecord
from csms.identity.alias import fingerprint, normalise
from csms.identity.did import document, fold, parse
from csms.identity.policy import decide

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
KEY = bytes(32)
SITE = Site(site_id="s1", limit_kw=44.0, time_zone="Europe/Copenhagen")
POLICY = AccessPolicy(trusted_issuers=("fleet",))


def _holder(number: int, rng: random.Random) -> Holder:
    did = f"did:denso:driver:{number}"
    return Holder(
        did=did,
        allowed_sites=("*",),
        credentials=tuple(
            Credential(
                credential_id=f"{did}#{index}",
                kind="FleetDriver",
                issuer=rng.choice(("fleet", "fleet", "other")),
                subject=did,
                valid_until=NOW + timedelta(days=rng.randint(-3, 30)),
                sites=(rng.choice(("s1", "s2")),),
                hours=((360, 1320),),
            )
            for index in range(3)
        ),
    )


def _print_times(name: str, times_us: list[float]) -> None:
    times_us.sort()
    p99 = times_us[int(len(times_us) * 0.99)]
    print(f"{name:32} median {statistics.median(times_us):7.1f} us   p99 {p99:7.1f} us")


def main(decisions: int) -> None:
    """Print median and 99th percentile of a decision, and of resolving two did:key."""
    rng = random.Random(1)
    holders = {(holder := _holder(number, rng)).did: holder for number in range(20_000)}
    records = {}
    for number, did in enumerate(holders):
        for kind, value in (
            ("rfid", f"04{number:012X}"),
            ("fingerprint", fingerprint(did, key=KEY)),
            ("did", fold(did)),
        ):
            records[kind, value] = TokenRecord(value=value, kind=kind, did=did)
    keys = list(records)
    times_us = []
    for _ in range(decisions):
        _, value = rng.choice(keys)
        token = IdToken(value=value.lower())
        began = time.perf_counter()
        found = (records[pair] for pair in normalise(token) if pair in records)
        record = next(found, None)
        decide(
            token,
            record,
            None if record is None else holders[record.did],
            station_id="c1",
            site=SITE,
            evse_id=1,
            open_sessions=0,
            policy=POLICY,
            now=NOW,
            is_start=True,
        )
        times_us.append((time.perf_counter() - began) * 1e6)
    _print_times(f"decision ({decisions})", times_us)
    for name, text in (
        ("did:key Ed25519", "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"),
        ("did:key P-256", "did:key:zDnaerx9CtbPJ1q36T5Ln5wYt3MQYeGRG5ehnPAmxcf5mDZpv"),
    ):
        times_us = []
        for _ in range(1000):
            began = time.perf_counter()
            document(parse(text))
            times_us.append((time.perf_counter() - began) * 1e6)
        _print_times(name, times_us)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
