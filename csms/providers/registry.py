"""Type name -> factory, for tariffs and carbon.

A section of the configuration names its `type`; the rest of it is checked by that type's own
options. Further types come from the entry-point groups `tasco.tariff` and `tasco.carbon`, each
entry naming a `Provider`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import entry_points
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from csms.core.errors import ConfigError
from csms.core.model import CarbonIntensity, Price
from csms.providers import carbon, tariffs
from csms.providers.fetch import Fetcher


class PriceSource(Protocol):
    """Energy prices (the service's TariffSource)."""

    async def prices(self, start: datetime, until: datetime) -> Sequence[Price]:
        """Return what is known of [start, until)."""
        ...


class CarbonSource(Protocol):
    """Grid emissions."""

    async def intensity(self, start: datetime, until: datetime) -> Sequence[CarbonIntensity]:
        """Return what is known of [start, until)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a factory is given besides its options: its name in messages, and the way out."""

    name: str
    fetcher: Fetcher


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A type: the model of its options, and how a source is built from them."""

    options: type[BaseModel]
    build: Callable[[Any, Context], Any]


TARIFFS: Mapping[str, Provider] = {
    "fixed": Provider(
        options=tariffs.FixedOptions,
        build=lambda options, context: tariffs.FixedTariff(options),
    ),
    "time_of_use": Provider(
        options=tariffs.TimeOfUseOptions,
        build=lambda options, context: tariffs.TimeOfUseTariff(options),
    ),
    "file": Provider(
        options=tariffs.FileOptions,
        build=lambda options, context: tariffs.RecordedTariff(options, provider=context.name),
    ),
    "http_json": Provider(
        options=tariffs.HttpOptions,
        build=lambda options, context: tariffs.HttpTariff(
            options, provider=context.name, fetcher=context.fetcher
        ),
    ),
}
CARBON: Mapping[str, Provider] = {
    "none": Provider(options=carbon.NoOptions, build=lambda options, context: carbon.NoCarbon()),
    "fixed": Provider(
        options=carbon.FixedCarbonOptions,
        build=lambda options, context: carbon.FixedCarbon(options),
    ),
    "file": Provider(
        options=carbon.FileCarbonOptions,
        build=lambda options, context: carbon.RecordedCarbon(options, provider=context.name),
    ),
    "http_json": Provider(
        options=carbon.HttpCarbonOptions,
        build=lambda options, context: carbon.HttpCarbon(
            options, provider=context.name, fetcher=context.fetcher
        ),
    ),
}


def tariff_source(
    section: Mapping[str, object], *, name: str = "tariff", fetcher: Fetcher | None = None
) -> PriceSource:
    """Build the tariff of a section such as `[tariff.default]`, `name` for messages.

    One `fetcher` should be shared by all sources. Raises ConfigError with the key at fault.
    """
    source: PriceSource = _built(section, TARIFFS, "tasco.tariff", name, fetcher)
    return source


def carbon_source(
    section: Mapping[str, object], *, name: str = "carbon", fetcher: Fetcher | None = None
) -> CarbonSource:
    """Build the carbon source of a section; see tariff_source."""
    source: CarbonSource = _built(section, CARBON, "tasco.carbon", name, fetcher)
    return source


def _built(
    section: Mapping[str, object],
    builtin: Mapping[str, Provider],
    group: str,
    name: str,
    fetcher: Fetcher | None,
) -> Any:
    kind = section.get("type")
    installed = {entry.name: entry for entry in entry_points(group=group)}
    # A built-in name stays ours: an installed package must not replace it unseen.
    if isinstance(kind, str) and kind in builtin:
        provider = builtin[kind]
    elif isinstance(kind, str) and kind in installed:
        provider = installed[kind].load()
    else:
        permitted = ", ".join([*builtin, *sorted(installed.keys() - builtin.keys())])
        raise ConfigError(f"[{name}] type is {kind!r:.60}; permitted: {permitted}")
    given = {key: value for key, value in section.items() if key != "type"}
    try:
        options = provider.options.model_validate(given)
    except ValidationError as error:
        raise ConfigError(_message(error, f"[{name}]", provider.options)) from error
    return provider.build(options, Context(name=name, fetcher=fetcher or Fetcher()))


def _message(error: ValidationError, where: str, options: type[BaseModel]) -> str:
    """Say what is wrong, without the values: an option may be a secret."""
    problems = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            problems.append(f"{key} is not known; permitted: {', '.join(options.model_fields)}")
        elif problem["type"] == "missing":
            problems.append(f"{key} is missing")
        else:
            text = problem["msg"].removeprefix("Value error, ")
            problems.append(f"{key}: {text}" if key else text)
    return f"{where} " + "; ".join(problems)
