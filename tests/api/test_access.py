"""Who may call what; errors; headers; idempotency."""

import json

import httpx
import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute

from csms.api.app import ROUTERS
from csms.api.auth import ROLES, GuardedRoute, role_of
from csms.store import access
from tests.api.conftest import Operator

ALL = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]


def _id(route: APIRoute) -> str:
    return f"{'-'.join(sorted(route.methods or ()))} {route.path}"


@pytest.mark.parametrize("route", ALL, ids=_id)
def test_every_route_declares_a_role(route: APIRoute) -> None:
    assert isinstance(route, GuardedRoute)
    assert role_of(route.dependant) in ROLES


@pytest.mark.parametrize("route", ALL, ids=_id)
def test_only_reading_is_open_to_viewers(route: APIRoute) -> None:
    if route.methods and not route.methods <= {"GET", "HEAD"}:
        assert role_of(route.dependant) == "operator"


def test_a_route_without_a_role_cannot_be_built() -> None:
    router = APIRouter(route_class=GuardedRoute)
    with pytest.raises(TypeError, match="declares no role"):

        @router.get("/open")
        async def _open() -> None:
            return None


async def test_no_api_route_answers_a_stranger(operator: Operator) -> None:
    for route in ALL:
        path = "/api/v1" + route.path.replace("{", "").replace("}", "")
        for method in route.methods or ():
            answer = await operator.anonymous.request(method, path, json={})
            assert answer.status_code == 401, f"{method} {path}"
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["type"] == "urn:tasco:problem:unauthenticated"


async def test_a_stranger_is_refused_before_the_body_is_read(operator: Operator) -> None:
    for path in ("sites/depot/plan", "stations/CP1/commands", "sessions/start", "holders"):
        answer = await operator.anonymous.post(f"/api/v1/{path}", content=b"{ no json")
        assert answer.status_code == 401


async def test_no_writing_route_obeys_a_viewer(operator: Operator) -> None:
    for route in ALL:
        if role_of(route.dependant) != "operator":
            continue
        path = "/api/v1" + route.path.replace("{", "").replace("}", "")
        for method in route.methods or ():
            answer = await operator.viewer.request(method, path, json={})
            assert answer.status_code == 403, f"{method} {path}"


async def test_health_is_open_and_tells_no_detail(operator: Operator) -> None:
    answer = await operator.anonymous.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready"}


async def test_a_store_that_is_gone_makes_the_process_not_ready(operator: Operator) -> None:
    await operator.store.close()
    answer = await operator.anonymous.get("/health")
    assert answer.status_code == 503
    assert (await operator.anonymous.get("/health/alive")).status_code == 200
    refused = await operator.client.get("/api/v1/sites")
    assert refused.status_code == 503
    assert refused.json()["type"] == "urn:tasco:problem:store-unavailable"


async def test_docs_are_off_and_the_description_needs_a_login(operator: Operator) -> None:
    assert (await operator.anonymous.get("/docs")).status_code == 404
    assert (await operator.anonymous.get("/openapi.json")).status_code == 404
    assert (await operator.anonymous.get("/api/v1/openapi.json")).status_code == 401
    paths = (await operator.viewer.get("/api/v1/openapi.json")).json()["paths"]
    assert "/api/v1/stations/{station_id}/commands" in paths


async def test_metrics_are_for_this_machine_or_a_token(operator: Operator) -> None:
    here = await operator.anonymous.get("/metrics")
    assert here.status_code == 200
    assert "tasco_links" in here.text
    passed_on = {"X-Forwarded-For": "192.0.2.1"}
    assert (await operator.anonymous.get("/metrics", headers=passed_on)).status_code == 401
    assert (await operator.viewer.get("/metrics", headers=passed_on)).status_code == 200
    far = httpx.ASGITransport(app=operator.app, client=("192.0.2.7", 5000))
    async with httpx.AsyncClient(transport=far, base_url="http://tasco") as client:
        assert (await client.get("/metrics")).status_code == 401


async def test_every_answer_carries_the_security_headers(operator: Operator) -> None:
    for path in ("/", "/app.js", "/api/v1/sites", "/api/v1/none", "/health"):
        headers = (await operator.client.get(path)).headers
        assert "default-src 'self'" in headers["content-security-policy"], path
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers
    assert (await operator.client.get("/api/v1/sites")).headers["cache-control"] == "no-store"


async def test_a_body_over_a_megabyte_is_refused_however_it_comes(operator: Operator) -> None:
    path = "/api/v1/imports/csv?kind=holders"
    declared = await operator.client.post(path, content=b"x" * 1_000_001)
    assert declared.status_code == 413

    async def pieces() -> object:
        for _ in range(11):
            yield b"x" * 100_000

    streamed = await operator.client.post(path, content=pieces())  # type: ignore[arg-type]
    assert streamed.status_code == 413
    assert streamed.json()["type"] == "urn:tasco:problem:too-large"


async def test_unknown_fields_are_refused_by_name(operator: Operator) -> None:
    answer = await operator.client.patch(
        "/api/v1/sites/depot", json={"limit_kw": 50, "owner": "me"}
    )
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "body.owner"


async def test_a_page_size_over_200_is_refused(operator: Operator) -> None:
    assert (await operator.client.get("/api/v1/sessions?limit=201")).status_code == 422
    assert (await operator.client.get("/api/v1/sessions?limit=200")).status_code == 200
    assert (await operator.client.get("/api/v1/sessions?cursor=nonsense")).status_code == 422


async def test_unknown_things_are_404_with_a_type_of_their_own(operator: Operator) -> None:
    for path, type_ in (
        ("sites/none", "unknown-site"),
        ("stations/none", "unknown-station"),
        ("sessions/none", "unknown-session"),
        ("plans/1", "not-found"),
        ("holders/did:denso:driver:none", "not-found"),
    ):
        answer = await operator.client.get(f"/api/v1/{path}")
        assert answer.status_code == 404, path
        assert answer.json()["type"] == f"urn:tasco:problem:{type_}"


async def test_a_repeated_key_acts_once_and_replays_the_answer(operator: Operator) -> None:
    body = {"role": "viewer", "label": "wall screen"}
    headers = {"Idempotency-Key": "once"}
    first = await operator.client.post("/api/v1/api-tokens", json=body, headers=headers)
    again = await operator.client.post("/api/v1/api-tokens", json=body, headers=headers)
    assert first.status_code == again.status_code == 201
    # The secret itself is shown once only and is not kept for the repeat.
    assert first.json()["token"]
    assert again.json() == {**first.json(), "token": None}
    assert again.headers["idempotent-replayed"] == "true"
    kept = await operator.store.read(access.list_api_tokens)
    assert sum(t.label == "wall screen" for t in kept) == 1


async def test_a_key_used_for_something_else_is_refused(operator: Operator) -> None:
    headers = {"Idempotency-Key": "twice"}
    await operator.client.post("/api/v1/api-tokens", json={"label": "a"}, headers=headers)
    other = await operator.client.post("/api/v1/api-tokens", json={"label": "b"}, headers=headers)
    assert other.status_code == 422
    assert other.json()["type"] == "urn:tasco:problem:key-reused"


async def test_a_stranger_gets_no_kept_answer(operator: Operator) -> None:
    headers = {"Idempotency-Key": "mine"}
    await operator.client.post("/api/v1/api-tokens", json={}, headers=headers)
    for client in (operator.anonymous, operator.viewer):
        answer = await client.post("/api/v1/api-tokens", json={}, headers=headers)
        assert answer.status_code in (401, 403)


async def test_a_made_token_works_until_it_is_revoked(operator: Operator) -> None:
    made = (await operator.client.post("/api/v1/api-tokens", json={"role": "viewer"})).json()
    login = {"Authorization": f"Bearer {made['token']}"}
    assert (await operator.anonymous.get("/api/v1/me", headers=login)).json()["role"] == "viewer"
    await operator.client.delete(f"/api/v1/api-tokens/{made['token_id']}")
    assert (await operator.anonymous.get("/api/v1/me", headers=login)).status_code == 401


async def test_tokens_are_listed_without_their_secret(operator: Operator) -> None:
    made = (await operator.client.post("/api/v1/api-tokens", json={"label": "x"})).json()
    listed = await operator.client.get("/api/v1/api-tokens")
    assert made["token"] not in listed.text
    assert made["token"][:12] in listed.text
    assert "hash" not in json.dumps(listed.json())
