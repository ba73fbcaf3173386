"""Conversations in the admin site: to be read, never to be changed."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Case, F, QuerySet, TextField, Value, When
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.text import Truncator

from chat.models import ChatRoom, Message
from hplus.accounts.tenancy_admin import TenancyAdmin

# What search may find: of a deleted message not even a word, or searching would spell it out.
SHOWN_TEXT = Case(When(deleted_at=None, then=F("text")), default=Value(""), output_field=TextField())


class NewestFirst(TenancyAdmin):
    """A table that grows without end, in the order of its key, which is that of time and indexed.

    What would read all of it is left out: another order, and searching beyond the newest rows.
    """

    SEARCHED = 50_000

    ordering = ["-pk"]
    sortable_by: list[str] = []
    search_help_text = f"Searches the newest {SEARCHED:,} that the filters leave."

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if search_term:
            newest = queryset.order_by("-pk").values_list("pk", flat=True)
            # Fetched, because as a subquery it leads the database to search first and choose then.
            oldest = newest[self.SEARCHED : self.SEARCHED + 1].first()
            queryset = queryset if oldest is None else queryset.filter(pk__gt=oldest)
        return super().get_search_results(request, queryset, search_term)


@admin.register(ChatRoom)
class ChatRoomAdmin(NewestFirst):
    list_display = ["__str__", "first", "second", "hospital", "created_at"]
    list_select_related = ["hospital", "first", "second"]
    search_fields = [
        "=chat_room_id",
        "first__user_id",
        "first__name",
        "second__user_id",
        "second__name",
    ]
    fields = ["chat_room_id", "hospital", "first", "second", "created_at", "conversation"]

    def get_list_filter(self, request: HttpRequest) -> list[str]:
        return ["hospital"] if request.user.is_superuser else []

    @admin.display
    def conversation(self, room: ChatRoom) -> str:
        messages = reverse("admin:chat_message_changelist")
        return format_html('<a href="{}?room__exact={}">Messages</a>', messages, room.pk)


@admin.register(Message)
class MessageAdmin(NewestFirst):
    list_display = ["__str__", "sender", "receiver", "beginning", "message_type", "priority", "state"]
    list_filter = [
        ("sent_at", admin.DateFieldListFilter),  # a date hierarchy reads the whole table
        "message_type",
        "priority",
        ("deleted_at", admin.EmptyFieldListFilter),
    ]
    list_select_related = ["sender", "receiver"]
    search_fields = [
        "=message_id",
        "shown_text",
        "sender__user_id",
        "sender__name",
        "receiver__user_id",
        "receiver__name",
    ]
    fieldsets = [
        (None, {"fields": ["message_id", "room", "sender", "receiver", "reply_to"]}),
        ("Content", {"fields": ["message_type", "priority", "text_shown", "files", "place"]}),
        ("What became of it", {"fields": ["sent_at", "delivered_at", "read_at", "edited_at"]}),
        ("Deletion", {"fields": ["deleted_at", "deleted_by", "delete_reason"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Message]:
        return super().get_queryset(request).annotate(shown_text=SHOWN_TEXT)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """The page of a room leads here with its id."""
        return lookup == "room__exact" or super().lookup_allowed(lookup, value, request)

    @admin.display(description="text")
    def beginning(self, message: Message) -> str:
        return Truncator(message.shown()["message"]).chars(80)

    @admin.display(description="text")
    def text_shown(self, message: Message) -> str:
        return message.shown()["message"]

    @admin.display
    def files(self, message: Message) -> str:
        return ", ".join(_name(file) for file in message.shown()["attachments"] or [])

    @admin.display
    def place(self, message: Message) -> str:
        place: dict[str, Any] = message.shown()["location"] or {}
        return ", ".join(str(place[key]) for key in ("lat", "lng", "address") if place.get(key) is not None)

    @admin.display
    def state(self, message: Message) -> str:
        if message.deleted_at:
            return "deleted"
        if message.read_at:
            return "read"
        return "delivered" if message.delivered_at else "sent"


def _name(file: dict[str, Any]) -> str:
    return str(file.get("name") or file.get("url") or "a file without a name")
