"""Rooms, their messages, earlier texts of edited messages, and attached files."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone

from hplus.accounts.models import Hospital, Role, User
from hplus.protocol.wire import new_id
from hplus.realtime.idempotency import IdempotentRow, one_row_per_key
from hplus.tenancy import TenancyQuerySet, since_move_of


class ChatRoomQuerySet(TenancyQuerySet["ChatRoom"]):
    def of(self, user: User) -> Self:
        """Return the rooms this user is a member of; whoever changes hospital or role begins without any."""
        return self.filter(_is_member(user))

    def visibility(self, user: User) -> Q:
        """Match the rooms a user may read: the own ones; for an admin all of the hospital."""
        return Q(hospital=user.hospital_id) if user.is_hospital_admin else _is_member(user)


def _is_member(user: User) -> Q:
    own = Q(first=user) | Q(second=user)
    if user.moved_at:
        written = Message.objects.filter(room=OuterRef("pk")).since_move_of(user)
        own &= since_move_of(user, "created_at") | Q(Exists(written))
    return own if user.is_patient else own & Q(hospital=user.hospital_id)


class ChatRoom(models.Model):
    """The conversation of two people in one hospital; both use the same room."""

    chat_room_id = models.CharField(
        "chatRoomId", max_length=36, primary_key=True, default=new_id, editable=False
    )
    hospital = models.ForeignKey(Hospital, on_delete=models.PROTECT, related_name="rooms")
    # The two userIds in sorted order, so that a pair has one room.
    first = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    second = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    opened_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    # When the patient opened the room or wrote; among staff when it was made. Null: only staff opened it.
    agreed_at = models.DateTimeField(null=True, blank=True)
    # Legal hold: as long as it is set, nothing of this conversation is anonymised.
    held_at = models.DateTimeField(null=True, blank=True)
    held_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    hold_reason = models.CharField(max_length=500, blank=True)

    objects = ChatRoomQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["hospital", "first", "second"], name="one_room_for_two"),
            models.CheckConstraint(
                condition=Q(held_at=None, held_by=None) | Q(held_at__isnull=False, held_by__isnull=False),
                name="a_hold_names_who_and_when",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.first_id} and {self.second_id}"

    @staticmethod
    def pair(one: str, other: str) -> tuple[str, str]:
        """Return the two userIds as they are stored: `first` and `second`."""
        return (one, other) if one < other else (other, one)

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes the room unique: hospitalId and both userIds."""
        return (self.hospital_id, self.first_id, self.second_id)

    def has_member(self, user: User) -> bool:
        """Whether the user is one of the two people of this room."""
        return user.pk in (self.first_id, self.second_id)

    def peer_id(self, user_id: str) -> str:
        """Return the userId of the other member."""
        return self.second_id if self.first_id == user_id else self.first_id


class MessageType(models.TextChoices):
    TEXT = "text"
    IMAGE = "image"
    FILE = "file"
    AUDIO = "audio"
    VIDEO = "video"
    LOCATION = "location"


class Priority(models.TextChoices):
    NORMAL = "normal"
    URGENT = "urgent"


class MessageQuerySet(TenancyQuerySet["Message"]):
    public_id = "message_id"

    def visibility(self, user: User) -> Q:
        """Match the messages of rooms the user may read."""
        return Q(room__in=ChatRoom.objects.visible_to(user))

    def since_move_of(self, user: User) -> Self:
        """Return those written since this user has had the role and the hospital of today."""
        return self.filter(since_move_of(user, "sent_at"))

    def unread_by(self, user: User) -> Self:
        return self._received_by(user).filter(read_at=None)

    def unread_by_any(self, users: Iterable[User] | Iterable[str]) -> Self:
        """Return what `unread_by` finds for each of these users."""
        is_seen = Q(receiver__role=Role.PATIENT) | Q(room__hospital=F("receiver__hospital"))
        is_of_now = Q(receiver__moved_at=None) | Q(sent_at__gte=F("receiver__moved_at"))
        return self.filter(is_seen, is_of_now, receiver__in=users, read_at=None, deleted_at=None)

    def _received_by(self, user: User) -> Self:
        received = self.filter(receiver=user, deleted_at=None).since_move_of(user)
        return received if user.is_patient else received.filter(room__hospital=user.hospital_id)


class Message(IdempotentRow):
    """One message. `id` orders the messages of a room, `message_id` is the public id."""

    message_id = models.CharField("messageId", max_length=36, unique=True, default=new_id, editable=False)
    room = models.ForeignKey(ChatRoom, on_delete=models.PROTECT, related_name="messages", db_index=False)
    # The two of the room: its row has them checked, and each check costs as much as an index.
    sender = models.ForeignKey(
        User, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    receiver = models.ForeignKey(
        User, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    text = models.TextField(blank=True)
    message_type = models.CharField(max_length=10, choices=MessageType, default=MessageType.TEXT)
    priority = models.CharField(max_length=10, choices=Priority, default=Priority.NORMAL)
    reply_to = models.CharField("replyTo", max_length=36, null=True, blank=True)  # noqa: DJ001 null on the wire
    attachments = models.JSONField(null=True, blank=True)
    location = models.JSONField(null=True, blank=True)
    client_timestamp = models.CharField(max_length=64, null=True, blank=True)  # noqa: DJ001 null on the wire
    sent_at = models.DateTimeField(default=timezone.now)
    delivered_at = models.DateTimeField(null=True, blank=True)
    read_at = models.DateTimeField(null=True, blank=True)
    edited_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True)
    deleted_by = models.ForeignKey(
        User, on_delete=models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    delete_reason = models.CharField(max_length=500, blank=True)

    objects = MessageQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        permissions = [("view_deleted_original", "May read what a deleted message said")]
        indexes = [
            models.Index(fields=["room", "id"], name="message_in_room"),
            models.Index(fields=["receiver"], name="message_unread", condition=Q(read_at=None)),
        ]
        constraints = [
            one_row_per_key("sender", "stored_once_however_often_sent"),
            models.CheckConstraint(
                condition=Q(read_at=None) | Q(delivered_at__isnull=False),
                name="read_implies_delivered",
            ),
            models.CheckConstraint(condition=~Q(sender=F("receiver")), name="not_to_oneself"),
        ]

    def __str__(self) -> str:
        return f"{self.sender_id} to {self.receiver_id}, {self.sent_at:%Y-%m-%d %H:%M}"

    def may_be_edited_by(self, user: User, now: datetime) -> bool:
        """Whether the user is the sender, EDIT_MINUTES have not passed, and the message is not deleted."""
        in_time = now - self.sent_at <= timedelta(minutes=settings.EDIT_MINUTES)
        return self.sender_id == user.pk and in_time and self.deleted_at is None

    def visible_content(self) -> dict[str, Any]:
        """Text, attachments and location as readers get them; empty for a deleted message."""
        if self.deleted_at:
            return {"message": "", "attachments": None, "location": None}
        return {"message": self.text, "attachments": self.attachments, "location": self.location}


class Revision(models.Model):
    """The text of a message before it was edited."""

    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="revisions")
    text = models.TextField(blank=True)
    replaced_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["replaced_at"]

    def __str__(self) -> str:
        return f"until {self.replaced_at:%Y-%m-%d %H:%M}"


def may_read_originals(user: User) -> bool:
    """Whether the user may read the text of deleted messages, and open their files."""
    return user.is_superuser or user.has_perm("chat.view_deleted_original")


class AttachmentQuerySet(TenancyQuerySet["Attachment"]):
    def visibility(self, user: User) -> Q:
        """Match the files of rooms the user may read; withdrawn ones only where originals may be read."""
        readable = Q(room__in=ChatRoom.objects.visible_to(user))
        return readable if may_read_originals(user) else readable & Q(withdrawn_at=None)


def stored_as(attachment: Attachment, _name: str) -> str:
    """Return the path on disk; it contains nothing of the client's file name."""
    return f"{attachment.uploaded_at:%Y/%m}/{attachment.attachment_id}"


def original_as(attachment: Attachment, _name: str) -> str:
    """Return the path of the upload as it came, beside the file without place and time."""
    return f"{attachment.uploaded_at:%Y/%m}/{attachment.attachment_id}.original"


class Attachment(models.Model):
    """A file uploaded for one room, served only to those who may read the room.

    It is withdrawn when the message that refers to it is deleted; the file itself is kept for the audit. One
    that no message names within a day is deleted; `named_at` is when a look found that one does.
    """

    attachment_id = models.CharField(max_length=36, primary_key=True, default=new_id, editable=False)
    room = models.ForeignKey(ChatRoom, on_delete=models.PROTECT, related_name="attachments")
    uploader = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    file = models.FileField(upload_to=stored_as)
    original = models.FileField(upload_to=original_as, blank=True, db_default="")
    name = models.CharField(max_length=255)
    size_bytes = models.PositiveIntegerField()
    content_type = models.CharField(max_length=100)
    uploaded_at = models.DateTimeField(default=timezone.now, editable=False)
    withdrawn_at = models.DateTimeField(null=True, blank=True)
    named_at = models.DateTimeField(null=True, blank=True)

    objects = AttachmentQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["uploader", "uploaded_at"], name="uploads_of_a_person"),
            models.Index(
                fields=["uploaded_at"],
                name="uploads_not_named",
                condition=Q(named_at=None, withdrawn_at=None),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def kind(self) -> str:
        """The type in the guide's terms: image, audio, video or file."""
        family = self.content_type.partition("/")[0]
        return family if family in ("image", "audio", "video") else "file"
