"""Which words there are, read from the classes that run: a new one needs no entry here."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from django.apps import AppConfig, apps
from django.utils.module_loading import autodiscover_modules

from hplus import errors
from hplus.protocol import wire
from hplus.realtime.consumers import ConnectionConsumer
from hplus.routing import HPlusConsumer

Kind = type[Any]  # a subclass of Request or Event
Speaker = Literal["client", "server"]
QUIET = "A refusal is not answered, unless the message itself is not valid."
FREE = "Not rate limited."
DOUBLED = "The fields of `data` stand a second time at the top level."
KEPT = "Kept for whoever is away; `seq` and `eventId` say where it stands."
SPEAKER_NAMES: dict[Speaker, str] = {"client": "Client", "server": "HPlus"}


@dataclass(frozen=True)
class WireMessage:
    """One `type` that one side says. Several classes where domains share it, as with `notification`."""

    type: str
    speaker: Speaker
    kinds: tuple[Kind, ...]

    @property
    def key(self) -> str:
        return f"{self.speaker}.{self.type}"

    @property
    def who(self) -> str:
        return SPEAKER_NAMES[self.speaker]

    @property
    def app(self) -> AppConfig:
        """Where it is at home: in the lowest of the domains that share it."""
        return app_of(self.kinds[0])

    @property
    def meaning(self) -> str:
        return " / ".join(meaning_of(kind) for kind in self.kinds)

    @property
    def remarks(self) -> list[str]:
        """What its classes say beside their fields."""
        return list(dict.fromkeys(remark for kind in self.kinds for remark in remarks_of(kind)))


@dataclass(frozen=True)
class Domain:
    """An app with the words at home in it."""

    label: str
    title: str
    about: str
    wire_messages: tuple[WireMessage, ...]


def wire_messages() -> list[WireMessage]:
    """Everything that is said, the client's word before the answer of the same name."""
    autodiscover_modules("messages")  # a word that only REST says belongs here too
    return sorted(
        [*_gathered("client", _requests()), *_gathered("server", _events())],
        key=lambda word: (word.type.lower(), word.speaker),
    )


def domains() -> list[Domain]:
    """The words by the app they are at home in, in the order of INSTALLED_APPS."""
    at_home = defaultdict(list)
    for word in wire_messages():
        at_home[word.app.label].append(word)
    return [_domain(app, at_home[app.label]) for app in apps.get_app_configs() if app.label in at_home]


def refusals() -> list[type[errors.Refusal]]:
    """Every refusal with a code of its own, in the order they were written in."""
    found, waiting = [], list(errors.Refusal.__subclasses__())
    while waiting:
        refusal = waiting.pop(0)
        waiting += refusal.__subclasses__()
        found.append(refusal)
    return [refusal for refusal in found if _is_ours(refusal) and "code" in vars(refusal)]


def app_of(kind: Kind) -> AppConfig:
    app = apps.get_containing_app_config(kind.__module__)
    if app is None:
        raise LookupError(f"{kind.__module__} belongs to no installed app")
    return app


def meaning_of(kind: Kind) -> str:
    """The first paragraph of its docstring, in one line."""
    return " ".join((inspect.cleandoc(kind.__doc__ or "")).partition("\n\n")[0].split())


def remarks_of(kind: Kind) -> list[str]:
    """What a class says beside its fields."""
    said = {
        QUIET: getattr(kind, "no_reply", False),
        FREE: not getattr(kind, "rate_limited", True),
        DOUBLED: getattr(kind, "flattened", False),
        KEPT: issubclass(kind, wire.Durable),
    }
    return [remark for remark, is_true in said.items() if is_true]


def _requests() -> Iterable[type[wire.Request]]:
    for consumer in (ConnectionConsumer, *HPlusConsumer.domains):
        yield from (handler.request for handler in consumer.handlers)


def _events() -> Iterable[type[wire.Event]]:
    return (kind for kind in wire.subclasses(wire.Event) if not kind.internal and _is_ours(kind))


def _is_ours(kind: Kind) -> bool:
    """Whether it belongs to what is installed, not to a test."""
    return apps.get_containing_app_config(kind.__module__) is not None


def _gathered(speaker: Speaker, kinds: Iterable[type[Any]]) -> list[WireMessage]:
    floors = [app.label for app in apps.get_app_configs()]
    by_type = defaultdict(list)
    for kind in sorted(kinds, key=lambda kind: (floors.index(app_of(kind).label), kind.__name__)):
        by_type[kind.type].append(kind)
    return [WireMessage(type, speaker, tuple(sharing)) for type, sharing in by_type.items()]


def _domain(app: AppConfig, at_home: list[WireMessage]) -> Domain:
    module = inspect.getmodule(at_home[0].kinds[0])
    about = meaning_of(module) if module else ""  # type: ignore[arg-type]
    return Domain(app.label, str(app.verbose_name), about, tuple(at_home))
