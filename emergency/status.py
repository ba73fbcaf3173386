"""The states of an emergency, the transitions between them, its phases, and the time that each sets."""

from __future__ import annotations

from django.db import models


class Status(models.TextChoices):
    PENDING = "pending"
    ACCEPTED = "accepted"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


OPEN = (Status.PENDING, Status.ACCEPTED, Status.IN_PROGRESS)
UNDERWAY = (Status.ACCEPTED, Status.IN_PROGRESS)
ASSIGNED = (Status.ACCEPTED, Status.IN_PROGRESS, Status.COMPLETED)

# The transitions by `emergencyStatusUpdate`. Others have requests of their own: pending → accepted by
# `emergencyResponse` or `emergencyReassign`; back to pending when the assignee releases it, or by
# `emergencyTransfer`. The same status again adds notes, a phase or vital signs; `in_progress` may come twice
# without them, because people tap twice.
MOVES: dict[str, frozenset[str]] = {
    Status.PENDING: frozenset({Status.CANCELLED}),
    Status.ACCEPTED: frozenset({Status.ACCEPTED, Status.IN_PROGRESS, Status.CANCELLED}),
    Status.IN_PROGRESS: frozenset({Status.IN_PROGRESS, Status.COMPLETED, Status.CANCELLED}),
    Status.COMPLETED: frozenset(),
    Status.CANCELLED: frozenset(),
}
# The requester may cancel it until somebody is on the way.
REQUESTER_MAY_CANCEL = (Status.PENDING, Status.ACCEPTED)


class Phase(models.TextChoices):
    EN_ROUTE = "enRoute"
    ON_SCENE = "onScene"
    AT_PATIENT = "atPatient"
    TRANSPORTING = "transporting"
    AT_DESTINATION = "atDestination"
    TRANSFER_OF_CARE = "transferOfCare"
    IN_SERVICE = "inService"


# From the first contact until the care is somebody else's, the patient is with the crew.
WITH_PATIENT = (
    Phase.AT_PATIENT, Phase.TRANSPORTING, Phase.AT_DESTINATION, Phase.TRANSFER_OF_CARE, Phase.IN_SERVICE,
)  # fmt: skip

# phase → the column with its time
STAMPS: dict[str, str] = {
    Phase.EN_ROUTE: "en_route_at",
    Phase.ON_SCENE: "on_scene_at",
    Phase.AT_PATIENT: "at_patient_at",
    Phase.TRANSPORTING: "transporting_at",
    Phase.AT_DESTINATION: "at_destination_at",
    Phase.TRANSFER_OF_CARE: "transfer_of_care_at",
    Phase.IN_SERVICE: "in_service_at",
}


def is_before(phase: str, present: str | None) -> bool:
    """Whether the phase comes before the present one, where there is one."""
    return present is not None and later_phases(phase).count(present) > 0


def later_phases(phase: str) -> list[str]:
    """Return the phases after this one, in their order."""
    return list(Phase.values[Phase.values.index(phase) + 1 :])


# NEMSIS 3.5, section eTimes → column
ETIMES: dict[str, str] = {
    "eTimes.01": "requested_at",  # call received
    "eTimes.03": "alerted_at",  # unit notified
    "eTimes.04": "accepted_at",  # acknowledged
    "eTimes.05": "en_route_at",
    "eTimes.06": "on_scene_at",
    "eTimes.07": "at_patient_at",
    "eTimes.09": "transporting_at",  # unit left scene
    "eTimes.11": "at_destination_at",
    "eTimes.12": "transfer_of_care_at",
    "eTimes.13": "in_service_at",
    "eTimes.14": "cancelled_at",
    "eTimes.16": "completed_at",
}


class StallCause(models.TextChoices):
    """Why an accepted emergency counts as stalled."""

    ACKNOWLEDGE = "acknowledge"  # assigned by another, and not acknowledged
    TURNOUT = "turnout"  # accepted, and neither a phase nor a position since
    UNREACHABLE = "unreachable"  # the assignee has no connection and sends no position
