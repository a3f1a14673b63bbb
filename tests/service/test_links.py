"""Station passwords: verified slowly once, quickly afterwards, and guessed at a snail's pace."""

import asyncio
import time

from csms.service.passwords import CredentialCheck, hash_password


async def test_the_right_password_is_accepted_and_a_wrong_one_is_not() -> None:
    check, stored = CredentialCheck(), (hash_password("correct horse battery"),)
    assert await check.verify("c1", b"correct horse battery", stored)
    assert not await check.verify("c1", b"correct horse", stored)


async def test_a_verified_password_is_remembered_for_its_station_and_hash_only() -> None:
    check, stored = CredentialCheck(), (hash_password("correct horse battery"),)
    began = time.process_time()
    assert await check.verify("c1", b"correct horse battery", stored)
    first_s = time.process_time() - began
    began = time.process_time()
    for _ in range(20):
        assert await check.verify("c1", b"correct horse battery", stored)
    assert (time.process_time() - began) / 20 < first_s / 5
    changed = (hash_password("another password"),)
    assert not await check.verify("c1", b"correct horse battery", changed)


async def test_a_hex_key_is_accepted_as_text_and_as_its_bytes() -> None:
    key = "00ff10203040506070809000a0b0c0d0e0f0aa55"
    check, stored = CredentialCheck(), (hash_password(key),)
    assert await check.verify("c1", key.encode(), stored)
    assert await check.verify("c1", bytes.fromhex(key), stored)


async def test_a_pending_password_works_beside_the_one_in_force() -> None:
    check = CredentialCheck()
    stored = (hash_password("the old password"), hash_password("the new password"))
    assert await check.verify("c1", b"the old password", stored)
    assert await check.verify("c1", b"the new password", stored)


def test_guessing_is_slowed_down_for_one_address_and_never_for_another() -> None:
    check = CredentialCheck()
    for _ in range(5):
        assert not check.is_blocked("c1", "10.0.0.1", 100.0)
        check.failed("c1", "10.0.0.1", 100.0)
    assert check.is_blocked("c1", "10.0.0.1", 104.0)
    assert not check.is_blocked("c1", "10.0.0.1", 106.0)
    assert not check.is_blocked("c1", "10.0.0.2", 100.0)
    for _ in range(20):
        check.failed("c1", "10.0.0.1", 100.0)
    assert check.is_blocked("c1", "10.0.0.1", 100.0 + 299)
    assert not check.is_blocked("c1", "10.0.0.1", 100.0 + 301)


async def test_many_stations_are_verified_beside_each_other() -> None:
    check, stored = CredentialCheck(), (hash_password("correct horse battery"),)
    results = await asyncio.gather(
        *(check.verify(f"c{i}", b"correct horse battery", stored) for i in range(8))
    )
    assert all(results)
