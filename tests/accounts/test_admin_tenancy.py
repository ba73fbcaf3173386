"""An admin runs one hospital: in the admin site the other one does not exist."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from chat import actions as chat
from chat.admin import NewestFirstAdmin
from chat.messages import DeleteMessage, SendMessage
from chat.models import ChatRoom, Message
from hplus import errors
from hplus.accounts import actions
from hplus.accounts.models import STAFF_ROLES, Hospital, Session, User
from hplus.management.commands.seed_demo import PASSWORD, seed_people
from hplus.realtime.models import Connection, ServerProcess
from tests.admin_site import admin_client_of, page

NEW_PASSWORD = "Lantern-Orbit-42"
INDEX = "/admin/"
MODELS = [Hospital, User, Session, Connection, ChatRoom, Message]


@pytest.fixture(autouse=True)
def users(db: None) -> dict[str, User]:
    """Each hospital has one conversation with one patient, and everyone in it is signed in."""
    seed_people()
    users = User.objects.in_bulk()
    server = ServerProcess.objects.create(host="ward", pid=1)
    for patient, doctor, hospital in [
        ("patient_123", "doctor_123", "hospital_001"),
        ("test_user", "doctor_002", "hospital_002"),
    ]:
        say(users[patient], users[doctor], hospital, f"Here is {patient}")
        for user in (users[patient], users[doctor]):
            session = Session.objects.create(user=user, device_id=f"phone of {user.pk}")
            Connection.objects.create(server=server, user=user, session=session, role=user.role)
    return users


@pytest.fixture
def superuser_client(users: dict[str, User]) -> Client:
    return admin_client_of(users["root"])


def say(sender: User, receiver: User, hospital: str, text: str) -> Message:
    answer = chat.send(sender, SendMessage(receiver_id=receiver.pk, hospital_id=hospital, message=text))
    assert answer.ack_data is not None
    return Message.objects.get(message_id=answer.ack_data["messageId"])


def listed(client: Client, model: type, **query: str) -> set[str]:
    response = client.get(page(model, "changelist"), query)
    assert response.status_code == 200
    return {str(row) for row in response.context["cl"].result_list}


def shown(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return response.content.decode()


def act(client: Client, model: type, action: str, ids: list[Any], *, query: str = "", **more: str) -> str:
    """What the admin is told about it."""
    asked = {"action": action, "_selected_action": ids, **more}
    response = client.post(f"{page(model, 'changelist')}?{query}", asked, follow=True)
    return [str(message) for message in response.context["messages"]][-1]


def theirs(model: type) -> Any:
    """A row of hospital_002, as somebody who guesses addresses would name it."""
    return {
        Hospital: lambda: Hospital.objects.get(pk="hospital_002"),
        User: lambda: User.objects.get(pk="doctor_002"),
        Session: lambda: Session.objects.get(user="doctor_002"),
        Connection: lambda: Connection.objects.get(user="doctor_002"),
        ChatRoom: lambda: ChatRoom.objects.get(hospital="hospital_002"),
        Message: lambda: Message.objects.get(room__hospital="hospital_002"),
    }[model]()


# Who may enter


@pytest.mark.parametrize("user_id", ["patient_123", "doctor_123", "nurse_001", "receptionist_002"])
def test_admin_site_is_for_admins_only(users: dict[str, User], user_id: str) -> None:
    response = admin_client_of(users[user_id]).get(INDEX)
    assert response.status_code == 302
    assert response.url.startswith("/admin/login/")


@pytest.mark.parametrize("user_id", ["patient_123", "doctor_123"])
def test_other_role_sees_nothing_even_with_staff_flag(users: dict[str, User], user_id: str) -> None:
    user = users[user_id]
    user.is_staff = True
    user.save()
    admin_client = admin_client_of(user)
    offered = {app["app_label"] for app in admin_client.get(INDEX).context["available_apps"]}
    assert offered.isdisjoint({"accounts", "realtime", "chat"})
    assert {admin_client.get(page(model, "changelist")).status_code for model in MODELS} == {403}


def test_deactivated_admin_is_signed_out(users: dict[str, User], admin_client: Client) -> None:
    assert admin_client.get(INDEX).status_code == 200
    User.objects.filter(pk="admin_001").update(is_active=False)
    assert admin_client.get(INDEX).status_code == 302


# What one sees


def test_admin_sees_own_hospital_only(users: dict[str, User], admin_client: Client) -> None:
    staff = {str(user) for user in users.values() if user.hospital_id == "hospital_001"}
    assert listed(admin_client, Hospital) == {"Riverside General"}
    assert listed(admin_client, User) == {*staff, "Pat Meadow"}
    assert listed(admin_client, Session) == {"doctor_123 on phone of doctor_123"}
    assert {name.split()[0] for name in listed(admin_client, Connection)} == {"patient_123", "doctor_123"}
    assert listed(admin_client, ChatRoom) == {"doctor_123 and patient_123"}
    assert {name.partition(",")[0] for name in listed(admin_client, Message)} == {"patient_123 to doctor_123"}


@pytest.mark.parametrize("model", MODELS)
def test_superuser_sees_both_hospitals(superuser_client: Client, model: type[Any]) -> None:
    assert len(listed(superuser_client, model)) == model.objects.count() >= 2
    assert superuser_client.get(page(model, "change", theirs(model).pk)).status_code == 200


@pytest.mark.parametrize("model", MODELS)
def test_guessed_url_of_another_hospital_is_not_found(admin_client: Client, model: type[Any]) -> None:
    row, nobody = theirs(model), "0" if model is Message else "00000000-0000-7000-8000-000000000000"
    for view in ("change", "history"):
        guessed, unknown = (admin_client.get(page(model, view, key)) for key in (row.pk, nobody))
        assert (guessed.status_code, guessed.url) == (unknown.status_code, unknown.url) == (302, INDEX)
    assert admin_client.get(page(model, "delete", row.pk)).status_code == 403


@pytest.mark.parametrize("fragment", ["doctor_002", "Stone", "test_user", "Hillcrest"])
@pytest.mark.parametrize("model", MODELS)
def test_search_finds_nothing_of_another_hospital(admin_client: Client, model: type, fragment: str) -> None:
    assert listed(admin_client, model, q=fragment) == set()


def test_search_finds_rows_of_own_hospital(admin_client: Client) -> None:
    assert listed(admin_client, User, q="brook") == {"Dr. Dana Brook"}
    assert listed(admin_client, ChatRoom, q="Meadow") == {"doctor_123 and patient_123"}
    assert len(listed(admin_client, Message, q="here patient_123")) == 1
    assert len(listed(admin_client, Connection, q="doctor_123")) == 1


@pytest.mark.parametrize(
    ("model", "query"),
    [
        (User, {"password__startswith": "md5"}),
        (User, {"hospital__people__password__startswith": "md5"}),
        (Session, {"tokens__digest__startswith": "a"}),
        (Message, {"text__contains": "Here"}),
        (Message, {"room__first__password__startswith": "md5"}),
    ],
)
def test_filter_by_url_on_secret_columns_is_refused(
    admin_client: Client, model: type, query: dict[str, str]
) -> None:
    assert admin_client.get(page(model, "changelist"), query).status_code == 400


def test_lookup_through_an_offered_filter_is_refused(superuser_client: Client) -> None:
    there = page(ChatRoom, "changelist")
    assert superuser_client.get(there, {"hospital__hospital_id__exact": "hospital_001"}).status_code == 200
    assert superuser_client.get(there, {"hospital__people__password__startswith": "md5"}).status_code == 400


@pytest.mark.parametrize(
    ("source", "field", "here", "there"),
    [
        ("accounts.session", "user", "doctor_123", "doctor_002"),
        ("chat.chatroom", "first", "patient_123", "test_user"),
        ("accounts.user", "hospital", "hospital_001", "hospital_002"),
    ],
)
def test_choices_offer_own_hospital_only(
    admin_client: Client, source: str, field: str, here: str, there: str
) -> None:
    app, model = source.split(".")

    def offered(term: str) -> list[str]:
        asked = {"app_label": app, "model_name": model, "field_name": field, "term": term}
        return [row["id"] for row in admin_client.get("/admin/autocomplete/", asked).json()["results"]]

    assert offered(here) == [here]
    assert offered(there) == []


def test_patient_is_listed_in_the_hospital_of_the_room(users: dict[str, User], admin_client: Client) -> None:
    second_admin_client = admin_client_of(users["admin_002"])
    assert "Pat Meadow" not in listed(second_admin_client, User)
    User.objects.filter(pk="doctor_123").update(hospital="hospital_002")  # the doctor moves, the room stays
    assert "Pat Meadow" in listed(admin_client, User)
    assert "Pat Meadow" not in listed(second_admin_client, User)
    assert "Dr. Dana Brook" not in listed(admin_client, User)

    say(users["patient_123"], users["nurse_002"], "hospital_002", "Are you open?")
    assert "Pat Meadow" in listed(second_admin_client, User)
    assert listed(second_admin_client, ChatRoom) == {"doctor_002 and test_user", "nurse_002 and patient_123"}


@pytest.mark.parametrize("model", MODELS)
def test_long_list_takes_no_more_queries(
    users: dict[str, User], superuser_client: Client, model: type
) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            listed(superuser_client, model)
        return len(captured)

    queries()  # content types are cached
    few = queries()
    Hospital.objects.bulk_create(Hospital(pk=f"h{n}", name=f"Hospital {n}") for n in range(10))
    for n in range(10):
        nurse = User.objects.create_user(f"n{n}", role="nurse", hospital_id=f"h{n}")
        session = Session.objects.create(user=nurse)
        server = ServerProcess.objects.create(host=f"ward {n}", pid=n)
        Connection.objects.create(server=server, user=nurse, session=session, role="nurse")
        say(users["patient_123"], nurse, f"h{n}", "Hello")
    assert queries() == few


# What one changes


def test_new_user_belongs_to_own_hospital(admin_client: Client) -> None:
    form = admin_client.get(page(User, "add")).context["adminform"].form
    assert list(form.fields["hospital"].queryset) == [Hospital.objects.get(pk="hospital_001")]
    assert {value for value, _ in form.fields["role"].choices if value} == set(STAFF_ROLES)

    new = {"user_id": "nurse_009", "role": "nurse", "password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
    assert admin_client.post(page(User, "add"), new | {"hospital": "hospital_001"}).status_code == 302
    assert actions.sign_in("nurse_009", NEW_PASSWORD).user.hospital_id == "hospital_001"


@pytest.mark.parametrize(
    "fields",
    [
        {"hospital": "hospital_002"},
        {"hospital": ""},
        {"role": "patient"},
        {"password2": "another one"},
        {"password1": "nurse_009", "password2": "nurse_009"},
        {"password1": "Florence Ward", "password2": "Florence Ward", "name": "Florence Ward"},
        {"password1": PASSWORD, "password2": PASSWORD},
        {"user_id": "doctor_002"},
    ],
)
def test_invalid_new_user_is_refused(admin_client: Client, fields: dict[str, str]) -> None:
    before = User.objects.count()
    new = {"user_id": "nurse_009", "role": "nurse", "password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
    response = admin_client.post(page(User, "add"), new | {"hospital": "hospital_001"} | fields)
    assert response.status_code == 200
    assert response.context["errors"]
    assert User.objects.count() == before


def test_superuser_sets_the_hospital_of_a_user(superuser_client: Client) -> None:
    new = {"user_id": "nurse_009", "role": "nurse", "password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
    refused = superuser_client.post(page(User, "add"), new)
    assert refused.context["adminform"].form.errors == {"hospital": ["Staff belong to a hospital."]}
    assert superuser_client.post(page(User, "add"), new | {"hospital": "hospital_002"}).status_code == 302
    assert (
        superuser_client.post(page(User, "add"), new | {"user_id": "p", "role": "patient"}).status_code == 302
    )


def test_admin_changes_staff_but_not_their_hospital(admin_client: Client) -> None:
    url, fields = page(User, "change", "nurse_001"), {"name": "Nora", "role": "nurse"}
    assert admin_client.post(url, fields | {"hospital": "hospital_002"}).status_code == 200
    assert admin_client.post(url, fields | {"hospital": ""}).status_code == 200
    extra = {"user_id": "other", "is_superuser": "on", "password": "x"}
    assert admin_client.post(url, fields | extra | {"hospital": "hospital_001"}).status_code == 302
    nurse = User.objects.get(pk="nurse_001")
    assert (nurse.name, nurse.hospital_id, nurse.is_superuser) == ("Nora", "hospital_001", False)
    assert nurse.check_password(PASSWORD)


@pytest.mark.parametrize("user_id", ["patient_123", "visitor", "chief"])
def test_admin_cannot_change_patients_and_superusers(admin_client: Client, user_id: str) -> None:
    """Whoever sets their password could read what belongs to other hospitals."""
    User.objects.create_superuser("chief", PASSWORD, hospital_id="hospital_001")
    User.objects.create_user("visitor", PASSWORD, role="patient", hospital_id="hospital_001")
    assert "md5" not in shown(admin_client, page(User, "change", user_id))
    assert admin_client.post(page(User, "change", user_id), {"name": "x"}).status_code == 403
    password = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
    assert admin_client.post(f"/admin/accounts/user/{user_id}/password/", password).status_code == 403
    act(admin_client, User, "deactivate", [user_id])
    user = User.objects.get(pk=user_id)
    assert user.is_active
    assert user.check_password(PASSWORD)


def test_admin_cannot_change_another_hospital(admin_client: Client) -> None:
    password = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
    assert admin_client.post("/admin/accounts/user/doctor_002/password/", password).status_code == 404
    fields = {"name": "x", "role": "nurse", "hospital": "hospital_001"}
    assert admin_client.post(page(User, "change", "doctor_002"), fields).url == INDEX
    assert admin_client.post(page(Hospital, "change", "hospital_002"), {"name": "x"}).url == INDEX
    assert admin_client.get(page(Hospital, "add")).status_code == 403
    doctor = User.objects.select_related("hospital").get(pk="doctor_002")
    assert (doctor.name, doctor.role, doctor.hospital.name) == ("Dr. Ira Stone", "doctor", "Hillcrest Clinic")
    assert doctor.check_password(PASSWORD)


def test_admin_cannot_lock_out_own_account(admin_client: Client) -> None:
    fields = {"name": "Ada", "role": "nurse", "hospital": "hospital_001"}
    assert admin_client.post(page(User, "change", "admin_001"), fields).status_code == 302
    act(admin_client, User, "deactivate", ["admin_001"])
    admin = User.objects.get(pk="admin_001")
    assert (admin.name, admin.role, admin.is_staff, admin.is_active) == ("Ada", "admin", True, True)


def test_new_password_ends_the_sessions(admin_client: Client) -> None:
    tokens = actions.sign_in("doctor_123", PASSWORD)
    weak = {"password1": "123", "password2": "123"}
    assert admin_client.post("/admin/accounts/user/doctor_123/password/", weak).status_code == 200
    assert actions.identify_by_token(tokens.access)
    password = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
    assert admin_client.post("/admin/accounts/user/doctor_123/password/", password).status_code == 302
    with pytest.raises(errors.SessionRevoked):
        actions.identify_by_token(tokens.access)
    assert actions.sign_in("doctor_123", NEW_PASSWORD)


def test_deactivation_ends_sessions_of_own_staff_only(admin_client: Client) -> None:
    everyone = ["doctor_123", "doctor_002", "test_user"]
    assert (
        act(admin_client, User, "deactivate", everyone, query="is_active__exact=1") == "1 of 1 deactivated."
    )
    act(admin_client, User, "deactivate", everyone, select_across="1")
    gone = User.objects.filter(is_active=False)
    own_staff = User.objects.filter(hospital="hospital_001", role__in=STAFF_ROLES).exclude(pk="admin_001")
    assert set(gone) == set(own_staff)
    assert set(Session.objects.exclude(revoked_at=None).values_list("user", flat=True)) == {"doctor_123"}
    assert LogEntry.objects.filter(object_id="doctor_123", change_message="Deactivated.").exists()

    act(admin_client, User, "reactivate", ["doctor_123"])
    assert User.objects.get(pk="doctor_123").is_active
    assert Session.objects.get(user="doctor_123").revoked_at


def test_revoking_reaches_own_staff_only(admin_client: Client) -> None:
    sessions = Session.objects.values_list("pk", flat=True)
    told = act(admin_client, Session, "revoke", list(sessions), query="revoked_at__isempty=1")
    assert told == "1 of 1 revoked."
    ended = Session.objects.exclude(revoked_at=None)
    assert [(session.user_id, session.revoked_reason) for session in ended] == [
        ("doctor_123", "by an administrator")
    ]


# Conversations


@pytest.mark.parametrize("model", [Connection, ChatRoom, Message])
def test_history_models_are_read_only(superuser_client: Client, model: type[Any]) -> None:
    assert superuser_client.get(page(model, "add")).status_code == 403
    assert superuser_client.post(page(model, "change", theirs(model).pk), {}).status_code == 403
    assert superuser_client.post(page(model, "delete", theirs(model).pk), {"post": "yes"}).status_code == 403


def test_conversation_is_opened_from_its_room(users: dict[str, User], admin_client: Client) -> None:
    say(users["nurse_001"], users["doctor_123"], "hospital_001", "The ECG room is free")
    room = ChatRoom.objects.get(first="doctor_123", second="patient_123")
    assert f"?room__exact={room.pk}" in shown(admin_client, page(ChatRoom, "change", room.pk))
    assert len(listed(admin_client, Message)) == 2
    assert len(listed(admin_client, Message, room__exact=room.pk)) == 1
    assert listed(admin_client, Message, room__exact=theirs(ChatRoom).pk) == set()
    message = Message.objects.get(room=room)
    assert "Here is patient_123" in shown(admin_client, page(Message, "changelist"))
    assert "Here is patient_123" in shown(admin_client, page(Message, "change", message.pk))


def test_search_is_limited_to_the_newest_rows_of_the_filter(
    users: dict[str, User], admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = Message.objects.get(room__hospital="hospital_001")
    say(users["nurse_001"], users["doctor_123"], "hospital_001", "The ECG room is free")
    assert len(listed(admin_client, Message, q="Here")) == 1
    monkeypatch.setattr(NewestFirstAdmin, "SEARCHED_ROWS", 1)
    assert listed(admin_client, Message, q="Here") == set()
    assert len(listed(admin_client, Message, q="ECG")) == 1
    assert len(listed(admin_client, Message, q="Here", room__exact=older.room_id)) == 1


def test_deleted_message_shows_no_text(users: dict[str, User], admin_client: Client) -> None:
    message = say(users["patient_123"], users["doctor_123"], "hospital_001", "My PIN is 7391")
    assert len(listed(admin_client, Message, q="7391")) == 1
    chat.delete(users["patient_123"], DeleteMessage(message_id=message.message_id))
    assert listed(admin_client, Message, q="7391") == set()
    assert "7391" not in shown(admin_client, page(Message, "changelist"))
    assert "7391" not in shown(admin_client, page(Message, "change", message.pk))
    assert len(listed(admin_client, Message, deleted_at__isempty="0")) == 1
