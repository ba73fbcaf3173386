"""Finds the published messages by the classes that run: a new class needs no entry here."""

from __future__ import annotations

import inspect
import re
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

MessageClass = type[Any]  # a subclass of Request or Event
Sender = Literal["client", "server"]
NO_REPLY = "A refusal is not answered, unless the message itself is not valid."
UNLIMITED = "Not rate limited."
FLATTENED = "The fields of `data` are repeated at the top level."
DURABLE = "Kept in the mailbox and replayed after a reconnect; `seq` and `eventId` give its place there."


@dataclass(frozen=True)
class PublishedMessage:
    """One `type` that one side sends. It has several classes where domains share it, like `notification`."""

    type: str
    sender: Sender
    classes: tuple[MessageClass, ...]

    @property
    def key(self) -> str:
        return f"{self.sender}.{self.type}"

    @property
    def title(self) -> str:
        return f"{self.sender.capitalize()}: {self.type}"

    @property
    def app(self) -> AppConfig:
        """The lowest of the apps that share the type."""
        return app_of(self.classes[0])

    @property
    def summary(self) -> str:
        return " / ".join(summary_of(message_class) for message_class in self.classes)

    @property
    def description(self) -> str:
        """What its classes say beside the summary, and the remarks."""
        rest = [description_of(c).removeprefix(summary_of(c)).strip() for c in self.classes]
        remarks = [remark for c in self.classes for remark in remarks_of(c)]
        return " ".join(text for text in dict.fromkeys([*rest, *remarks]) if text)


@dataclass(frozen=True)
class Domain:
    """An app with its messages."""

    label: str
    title: str
    description: str
    messages: tuple[PublishedMessage, ...]

    def sent_by(self, sender: Sender) -> list[PublishedMessage]:
        return [message for message in self.messages if message.sender == sender]


def published_messages() -> list[PublishedMessage]:
    """Return all messages by type, the client's before the server's of the same type."""
    autodiscover_modules("messages")  # also those of apps without a consumer
    return sorted(
        [*_by_type("client", _requests()), *_by_type("server", _events())],
        key=lambda message: (message.type.lower(), message.sender),
    )


def domains() -> list[Domain]:
    """Return the messages by app, in the order of INSTALLED_APPS."""
    by_app = defaultdict(list)
    for message in published_messages():
        by_app[message.app.label].append(message)
    return [_domain(app, by_app[app.label]) for app in apps.get_app_configs() if app.label in by_app]


def refusals() -> list[type[errors.Refusal]]:
    """Return every refusal with a code of its own, in the order of their definition."""
    found, waiting = [], list(errors.Refusal.__subclasses__())
    while waiting:
        refusal = waiting.pop(0)
        waiting += refusal.__subclasses__()
        found.append(refusal)
    return [refusal for refusal in found if _is_installed(refusal) and "code" in vars(refusal)]


def app_of(message_class: MessageClass) -> AppConfig:
    """Return the app that defines the class. Raises LookupError where none does."""
    app = apps.get_containing_app_config(message_class.__module__)
    if app is None:
        raise LookupError(f"{message_class.__module__} belongs to no installed app")
    return app


def description_of(message_class: MessageClass) -> str:
    """Return the docstring in one line."""
    return " ".join((message_class.__doc__ or "").split())


def summary_of(message_class: MessageClass) -> str:
    """Return the first sentence of the docstring."""
    return re.split(r"(?<=[.!?])\s+(?=[A-Z])", first_paragraph_of(message_class), maxsplit=1)[0]


def first_paragraph_of(documented: Any) -> str:
    """Return the first paragraph of the docstring in one line."""
    return " ".join(inspect.cleandoc(documented.__doc__ or "").partition("\n\n")[0].split())


def remarks_of(message_class: MessageClass) -> list[str]:
    """Return what the attributes of a class say about its delivery."""
    remarks = {
        NO_REPLY: getattr(message_class, "no_reply", False),
        UNLIMITED: not getattr(message_class, "rate_limited", True),
        FLATTENED: getattr(message_class, "flattened", False),
        DURABLE: issubclass(message_class, wire.Durable),
    }
    return [remark for remark, applies in remarks.items() if applies]


def _requests() -> Iterable[type[wire.Request]]:
    for consumer in (ConnectionConsumer, *HPlusConsumer.domains):
        yield from (handler.request for handler in consumer.handlers)


def _events() -> Iterable[type[wire.Event]]:
    return (event for event in wire.subclasses(wire.Event) if not event.internal and _is_installed(event))


def _is_installed(cls: type[Any]) -> bool:
    """Whether the class belongs to an installed app, not to a test."""
    return apps.get_containing_app_config(cls.__module__) is not None


def _by_type(sender: Sender, classes: Iterable[MessageClass]) -> list[PublishedMessage]:
    labels = [app.label for app in apps.get_app_configs()]
    by_type = defaultdict(list)
    for message_class in sorted(classes, key=lambda c: (labels.index(app_of(c).label), c.__name__)):
        by_type[message_class.type].append(message_class)
    return [PublishedMessage(type_, sender, tuple(sharing)) for type_, sharing in by_type.items()]


def _domain(app: AppConfig, messages: list[PublishedMessage]) -> Domain:
    module = inspect.getmodule(messages[0].classes[0])
    return Domain(app.label, str(app.verbose_name), first_paragraph_of(module), tuple(messages))
