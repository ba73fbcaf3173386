"""Emergencies on one connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from emergency import actions, charts, messages
from emergency.amend import amend
from emergency.call_for_help import request_help
from emergency.escalation_ack import acknowledge_escalation
from emergency.models import SEES_AN_OPEN_EMERGENCY
from emergency.named_patient import confirm_patient
from emergency.response import respond
from hplus.realtime.actions import Result
from hplus.realtime.consumers import DomainConsumer, handles


class EmergencyConsumer(DomainConsumer):
    """The emergencies of one connection."""

    @handles(messages.RequestHelp)
    def request_help(self, request: messages.RequestHelp) -> Result:
        return request_help(self.user, request)

    @handles(messages.Respond)
    def respond(self, request: messages.Respond) -> Result:
        return respond(self.user, request)

    @handles(messages.UpdateStatus)
    def update_status(self, request: messages.UpdateStatus) -> Result:
        return actions.update_status(self.user, request)

    @handles(messages.Amend)
    def amend(self, request: messages.Amend) -> Result:
        return amend(self.user, request)

    @handles(messages.ConfirmPatient)
    def confirm_patient(self, request: messages.ConfirmPatient) -> Result:
        return confirm_patient(self.user, request)

    @handles(messages.Reassign)
    def reassign(self, request: messages.Reassign) -> Result:
        return actions.reassign(self.user, request)

    @handles(messages.AcknowledgeEscalation)
    def acknowledge_escalation(self, request: messages.AcknowledgeEscalation) -> Result:
        return acknowledge_escalation(self.user, request)

    @handles(messages.Transfer)
    def transfer(self, request: messages.Transfer) -> Result:
        return actions.transfer(self.user, request)

    @handles(messages.SetDiversion)
    def set_diversion(self, request: messages.SetDiversion) -> Result:
        return actions.set_diversion(self.user, request)

    @handles(messages.FindNearestResponders)
    def nearest_responders(self, request: messages.FindNearestResponders) -> Result:
        return actions.nearest_responders(self.user, request)

    @handles(messages.WatchBoard)
    def watch_board(self, request: messages.WatchBoard) -> Result:
        return actions.watch_board(self.user, request)

    # Handshake

    arrival_probe = SEES_AN_OPEN_EMERGENCY

    @classmethod
    def snapshot_all(cls, consumers: Sequence[Self]) -> list[dict[str, Any]]:
        greeted = charts.greetings([consumer.user for consumer in consumers])
        return [{"activeEmergencies": shown, "hasMoreEmergencies": more} for shown, more in greeted]

    def on_connect(self) -> Result:
        return actions.unanswered_alerts(self.user)
