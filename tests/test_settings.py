"""Settings: defaults, the environment, and what a wrong key or value is answered with."""

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
