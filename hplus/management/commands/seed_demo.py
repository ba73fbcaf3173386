"""Make two demo hospitals with their people and a little history. Safe to repeat."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from calls import actions as calls
from calls.messages import AcceptCall, EndCall, InitiateCall
from calls.models import Call
from calls.setup import initiate
from chat import actions as chat
from chat.messages import MarkAsRead, SendMessage
from chat.models import Message
from chat.receipts import mark_as_read
from emergency.actions import update_status
from emergency.call_for_help import request_help
from emergency.messages import RequestHelp, Respond, UpdateStatus
from emergency.models import Emergency
from emergency.response import respond
from hplus.accounts.models import Hospital, Role, User
from hplus.accounts.passwords import DEMO_PASSWORD
from hplus.realtime.publishing import publisher

PASSWORD = DEMO_PASSWORD
HOSPITALS = {"hospital_001": "Riverside General", "hospital_002": "Hillcrest Clinic"}
# userId, name, role, number of the hospital, department, specialization
PEOPLE = [
    ("patient_123", "Pat Meadow", "patient", "", "", ""),
    ("test_user", "Terry Test", "patient", "", "", ""),
    ("doctor_123", "Dr. Dana Brook", "doctor", "001", "emergency", "emergency medicine"),
    ("doctor_456", "Dr. Noor Vale", "doctor", "001", "cardiology", "cardiologist"),
    ("paramedic_456", "Kit Harbor", "paramedic", "001", "", ""),
    ("paramedic_789", "Sam Ridge", "paramedic", "001", "", ""),
    ("doctor_002", "Dr. Ira Stone", "doctor", "002", "emergency", "surgeon"),
    ("paramedic_002", "Jo Field", "paramedic", "002", "", ""),
    *(
        (f"{role}_{number}", f"{role.capitalize()} {number}", role, number, department, "")
        for number in ("001", "002")
        for role, department in [
            ("nurse", "emergency"),
            ("admin", ""),
            ("receptionist", ""),
            ("technician", "radiology"),
            ("pharmacist", ""),
        ]
    ),
]
CONVERSATION = [
    (
        "patient_123",
        "doctor_456",
        "Good morning. Since yesterday my chest feels tight when I climb stairs.",
    ),
    ("doctor_456", "patient_123", "Thank you for writing. Does it pass when you rest?"),
    ("patient_123", "doctor_456", "Yes, after a minute or two."),
    (
        "doctor_456",
        "patient_123",
        "Please come in this afternoon for an ECG. If it comes at rest, call for help at once.",
    ),
    ("nurse_001", "doctor_456", "The ECG room is free at 14:30."),
]
# All closed, and of patients without an account, so that no later emergency is a possible duplicate.
EMERGENCIES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "001",
        {
            "patientId": "walk_in_17",
            "patientName": "Ali Brandt",
            "location": {"lat": 37.7793, "lng": -122.4193, "address": "1 Civic Center"},
            "condition": "Chest pain",
            "priority": "critical",
        },
        {"respirationRate": 22, "spo2": 93, "onOxygen": True, "bp": "104/66", "pulse": 112, "avpu": "A"},
    ),
    (
        "001",
        {
            "patientId": "walk_in_18",
            "patientName": "Mina Cole",
            "location": {"lat": 37.7694, "lng": -122.4862, "address": "Park entrance"},
            "condition": "Fall from a bicycle",
            "priority": "medium",
        },
        {"pulse": 88, "spo2": 98},
    ),
    (
        "002",
        {
            "patientId": "walk_in_21",
            "patientName": "Theo Lund",
            "location": {"lat": 37.8044, "lng": -122.2712, "address": "14th and Broadway"},
            "condition": "Allergic reaction",
            "priority": "high",
        },
        {"pulse": 124, "bp": "92/58", "spo2": 94},
    ),
]


class Command(BaseCommand):
    help = f"Make the demo hospitals and people (password {PASSWORD}) and a little history."

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError("Demo people have a known password, so they need DEBUG=1.")
        with transaction.atomic():
            made = seed_people()
        if not Message.objects.exists():
            seed_history()
        if not Call.objects.exists():
            seed_calls()
        if not Emergency.objects.exists():
            seed_emergencies()
        publisher.flush()
        self.stdout.write(f"Demo data: {made} people made, {len(PEOPLE) + 1 - made} were there.")


def seed_people() -> int:
    """Make the hospitals and people that are missing. Returns how many people were made."""
    for hospital_id, name in HOSPITALS.items():
        Hospital.objects.get_or_create(pk=hospital_id, defaults={"name": name})
    known = set(User.objects.values_list("pk", flat=True))
    password = make_password(PASSWORD)
    missing = [person for person in PEOPLE if person[0] not in known]
    for user_id, name, role, number, department, specialization in missing:
        User.objects.create(
            user_id=user_id,
            name=name,
            role=role,
            hospital_id=f"hospital_{number}" if number else None,
            department=department,
            specialization=specialization,
            is_staff=role == Role.ADMIN,
            password=password,
        )
    if "root" not in known:
        User.objects.create_superuser("root", PASSWORD, name="Root")
        return len(missing) + 1
    return len(missing)


def seed_history() -> None:
    """Make a conversation; the doctor's last message stays unread."""
    people = User.objects.in_bulk()
    for sender, receiver, text in CONVERSATION:
        result = chat.send(
            people[sender],
            SendMessage(receiver_id=receiver, hospital_id="hospital_001", message=text),
        )
        assert result.ack_data is not None
        if sender == "patient_123":
            mark_as_read(people[receiver], MarkAsRead(message_id=result.ack_data["messageId"]))


def seed_calls() -> None:
    """Make an answered and a missed call."""
    doctor, patient = User.objects.get(pk="doctor_456"), User.objects.get(pk="patient_123")
    for is_taken in (True, False):
        command = InitiateCall(receiver_id=patient.pk, call_type="video")
        call_id = (initiate(doctor, command, connection_id="").ack_data or {})["callId"]
        if is_taken:
            calls.accept(patient, AcceptCall(call_id=call_id), connection_id="")
        calls.end(doctor, EndCall(call_id=call_id), connection_id="")


def seed_emergencies() -> None:
    """Make emergencies, each requested by the receptionist, accepted by the nurse and completed."""
    for number, command, vitals in EMERGENCIES:
        reception, nurse = (User.objects.get(pk=f"{role}_{number}") for role in ("receptionist", "nurse"))
        called = request_help(reception, RequestHelp.read({**command, "hospitalId": f"hospital_{number}"}))
        about = {"emergencyId": (called.ack_data or {})["emergencyId"]}
        respond(nurse, Respond.read({**about, "action": "accept", "estimatedArrival": "6 minutes"}))
        for step in (
            {"phase": "enRoute"},
            {"phase": "onScene"},
            {"phase": "atPatient", "vitals": vitals},
            {"status": "completed", "phase": "transferOfCare", "notes": "Handed over."},
        ):
            update_status(nurse, UpdateStatus.read({**about, **step}))
