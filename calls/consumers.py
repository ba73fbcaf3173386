"""Calls on one connection."""

from __future__ import annotations

from typing import Any

from calls import actions, messages, setup
from calls.models import IS_IN_A_CALL
from hplus.protocol.wire import subclasses
from hplus.realtime.actions import Result
from hplus.realtime.consumers import DomainConsumer, handles
from hplus.realtime.publishing.envelopes import Envelope


class CallsConsumer(DomainConsumer):
    """The calls of one device."""

    watched_events = subclasses(messages.CallEvent)

    @handles(messages.InitiateCall)
    def initiate(self, request: messages.InitiateCall) -> Result:
        return setup.initiate(self.user, request, self.client.connection_id)

    @handles(messages.AcceptCall)
    def accept(self, request: messages.AcceptCall) -> Result:
        return actions.accept(self.user, request, self.client.connection_id)

    @handles(messages.RejectCall)
    def reject(self, request: messages.RejectCall) -> Result:
        return actions.reject(self.user, request, self.client.connection_id)

    @handles(messages.EndCall)
    def end(self, request: messages.EndCall) -> Result:
        return actions.end(self.user, request, self.client.connection_id)

    @handles(messages.AddParticipant)
    def add(self, request: messages.AddParticipant) -> Result:
        return actions.add(self.user, request, self.client.connection_id)

    @handles(messages.SignalCall)
    def signal(self, request: messages.SignalCall) -> None:
        actions.signal(self.user, request, self.client.connection_id)

    # Handshake and events

    arrival_probe = IS_IN_A_CALL

    def snapshot(self) -> dict[str, Any]:
        return {"activeCall": actions.active_call(self.user)}

    def on_connect(self) -> Result | None:
        return actions.incoming_calls(self.user)

    def on_event(self, envelope: Envelope) -> Envelope | None:
        """Drop what this connection caused, which the user's other devices need, and signals for another."""
        if envelope.event_type == messages.CallSignalled.type:
            return envelope if envelope.topic in ("", self.client.connection_id) else None
        return None if envelope.topic == self.client.connection_id else envelope
