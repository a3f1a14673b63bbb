"""Settings: defaults, the environment, and what a wrong key or value is answered with."""

import re
from pathlib import Path

import pytest

from csms.core.errors import ConfigError
from csms.settings import Settings, effective, load


def loaded(tmp_path: Path, text: str, env: dict[str, str] | None = None) -> Settings:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, env or {})


def test_an_empty_file_is_a_working_system_on_loopback(tmp_path: Path) -> None:
    settings = loaded(tmp_path, "")
    assert (settings.gateway.host, settings.api.host) == ("127.0.0.1", "127.0.0.1")
    assert settings.store.url.startswith("sqlite:///")
    assert list(settings.sites()) == ["main"]
    assert not settings.gateway.allow_profile_0


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        '[gateway]\nport = 1000\nhost = "127.0.0.2"\n[site.a]\nlimit_kw = 3',
        {"TASCO_GATEWAY__PORT": "1001", "TASCO_SITE__A__BASE_LOAD_KW": "1"},
    )
    assert (settings.gateway.port, settings.gateway.host) == (1001, "127.0.0.2")
    assert (settings.site["a"].limit_kw, settings.site["a"].base_load_kw) == (3.0, 1.0)


@pytest.mark.parametrize(
    ("text", "env", "words"),
    [
        ("[gatway]\nport = 1", {}, ["gatway", "did you mean gateway"]),
        ("[gateway]\nprot = 1", {}, ["gateway.prot", "did you mean port"]),
        ("[site.a]\nlimitkw = 3", {}, ["site.a.limitkw", "did you mean limit_kw"]),
        ("[planner]\nslot_s = 700", {}, ["planner.slot_s is 700", "300, 900, 1800 or 3600"]),
        ("[site.a]\nlimit_kw = -1", {}, ["site.a.limit_kw is -1", "greater than or equal to 0"]),
        ('[site.a]\ntime_zone = "Mars"', {}, ["site.a.time_zone is 'Mars'", "iana time zone"]),
        ("[site.a]\nlimit_kw = nan", {}, ["site.a.limit_kw is nan", "finite"]),
        (
            "[site.a]\ndemand_charge_eur_per_kw = inf",
            {},
            ["site.a.demand_charge_eur_per_kw is inf", "finite"],
        ),
        ("x = ", {}, ["cannot be read"]),
        ("", {"TASCO_GATEWAY__PROT": "1"}, ["TASCO_GATEWAY__PROT", "did you mean port"]),
        ("", {"TASCO_GATWAY__PORT": "1"}, ["TASCO_GATWAY__PORT", "did you mean gateway"]),
        ("", {"TASCO_GATEWAY__PORT": "x"}, ["gateway.port is 'x'", "integer"]),
    ],
)
def test_what_is_wrong_is_named_with_what_is_right(
    tmp_path: Path, text: str, env: dict[str, str], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text, env)
    for word in words:
        assert word in str(caught.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(Path("nowhere.toml"), {})


def test_no_secret_is_printed(tmp_path: Path) -> None:
    settings = loaded(tmp_path, '[identity]\ntenant_key = "verysecret"')
    assert "verysecret" not in str(dict(effective(settings)))
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, "[identity]\ntenant_key = 71")
    assert "71" not in str(caught.value)


TREE = """
[site.a]
limit_kw = 44
[site.a.circuit.main]
limit_a = 63
evses = ["*"]
[site.a.circuit.hall]
parent = "main"
limit_a = [32, 32, 16]
load_kw = 1.5
evses = ["HALL-*"]
"""


def test_circuits_are_read_below_their_site(tmp_path: Path) -> None:
    hall, main = loaded(tmp_path, TREE).circuits()["a"]
    assert (hall.circuit_id, hall.parent_id, hall.limit_a) == ("hall", "main", (32.0, 32.0, 16.0))
    assert (main.limit_a, main.evses, main.voltage_v) == ((63.0,), ("*",), 230.0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('parent = "attic"', "site.a: circuit hall: parent is 'attic', which is no circuit"),
        ('parent = "hall"', "site.a: circuit hall on hall: a circuit cannot hang on itself"),
        ('evses = ["*"]', "site.a: '*' is on 2 circuits"),
    ],
)
def test_circuits_that_are_no_tree_are_named(tmp_path: Path, line: str, message: str) -> None:
    name = line.split(" ")[0]
    kept = [text for text in TREE.splitlines() if not text.startswith("parent")]
    hall = kept.index("[site.a.circuit.hall]")
    kept = kept[: hall + 1] + [x for x in kept[hall + 1 :] if not x.startswith(name)]
    settings = loaded(tmp_path, "\n".join([*kept, line]))
    with pytest.raises(ConfigError, match=re.escape(message)):
        settings.circuits()


@pytest.mark.parametrize("value", ["-1", "[1, 2]", "nan", '"x"'])
def test_a_limit_that_is_none_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match=r"site\.a\.circuit\.hall\.limit_a"):
        loaded(tmp_path, f"[site.a.circuit.hall]\nlimit_a = {value}")


def test_the_secrets_of_the_bus_are_masked(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        '[bus]\ntype = "nats"\nurl = "tls://a:4222,tls://b:4222"\nuser = "tasco"',
        {"TASCO_BUS__PASSWORD": "not for everybody", "TASCO_BUS__TOKEN": "nor this"},
    )
    shown = dict(effective(settings))
    assert shown["bus.url"] == "tls://a:4222,tls://b:4222"
    assert "not for everybody" not in str(shown)
    assert "nor this" not in str(shown)


@pytest.mark.parametrize("url", ["nats://user:secret@host:4222", "http://host:4222", ""])
def test_the_url_of_the_bus_holds_no_secret(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"bus.url") as caught:
        loaded(tmp_path, f'[bus]\nurl = "{url}"')
    assert "secret" not in str(caught.value)
