"""The ears of the calls: one line for each word."""

from __future__ import annotations

from typing import Any

from calls import actions, messages, placing
from hplus.realtime.answers import Answer
from hplus.realtime.consumers import DomainConsumer, handles
from hplus.realtime.parcels import Parcel


class CallsConsumer(DomainConsumer):
    """What one device says and hears of calls."""

    @handles(messages.InitiateCall)
    def initiate(self, request: messages.InitiateCall) -> Answer:
        return placing.initiate(self.user, request, self.socket.connection_id)

    @handles(messages.AcceptCall)
    def accept(self, request: messages.AcceptCall) -> Answer:
        return actions.accept(self.user, request, self.socket.connection_id)

    @handles(messages.RejectCall)
    def reject(self, request: messages.RejectCall) -> Answer:
        return actions.reject(self.user, request, self.socket.connection_id)

    @handles(messages.EndCall)
    def end(self, request: messages.EndCall) -> Answer:
        return actions.end(self.user, request, self.socket.connection_id)

    @handles(messages.AddParticipant)
    def add(self, request: messages.AddParticipant) -> Answer:
        return actions.add(self.user, request, self.socket.connection_id)

    @handles(messages.SignalCall)
    def signal(self, request: messages.SignalCall) -> None:
        actions.signal(self.user, request, self.socket.connection_id)

    # The handshake and what arrives

    def snapshot(self) -> dict[str, Any]:
        return {"activeCall": actions.active_call(self.user)}

    def greet(self) -> Answer | None:
        return actions.incoming(self.user)

    def hear(self, parcel: Parcel) -> Parcel | None:
        """What this device caused itself is news only for the others of the same user."""
        return None if parcel.topic == self.socket.connection_id else parcel
