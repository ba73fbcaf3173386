"""Conversations in the admin site: to be read, never to be changed."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

from django.contrib import admin
from django.contrib import messages as notes
from django.contrib.admin.utils import unquote
from django.db.models import Case, F, QuerySet, TextField, Value, When
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.text import Truncator
from unfold.contrib.filters.admin import RangeDateFilter
from unfold.utils import parse_date_str

from chat import attachments, legal_hold
from chat.models import Attachment, ChatRoom, Message
from chat.transcript import transcript
from hplus import errors
from hplus.admin_site.tenancy_admin import TenancyAdmin
from hplus.audit.actions import record
from hplus.audit.models import Verb

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
    """A list of conversations; each opens as a transcript."""

    list_display = ["people", "hospital", "created_at", "hold"]
    list_select_related = ["hospital", "first", "second"]
    search_fields = [
        "=chat_room_id",
        "first__user_id",
        "first__name",
        "second__user_id",
        "second__name",
    ]

    exported = ["chat_room_id", "hospital", "first", "second", "created_at", "held_at"]

    def get_list_filter(self, request: HttpRequest) -> list[str]:
        return ["hospital"] if request.user.is_superuser else []

    @admin.display
    def people(self, room: ChatRoom) -> str:
        return f"{room.first} and {room.second}"

    @admin.display(description="legal hold")
    def hold(self, room: ChatRoom) -> str:
        return f"since {room.held_at:%Y-%m-%d}" if room.held_at else "–"

    def get_urls(self) -> list[URLPattern]:
        own = [
            ("hold", self.hold_view),
            ("release", self.release_view),
            ("attachments/<str:attachment_id>", self.attachment_view),
        ]
        pages = [
            path(f"<str:object_id>/{word}/", self.admin_site.admin_view(view), name=f"chat_{view.__name__}")
            for word, view in own
        ]
        return [*pages, *super().get_urls()]

    # The transcript

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.method not in ("GET", "HEAD") or not self.has_view_permission(request):
            return super().change_view(request, object_id, *args, **kwargs)  # which refuses it
        rooms = self.get_queryset(request).select_related("hospital", "first", "second", "held_by")
        room = rooms.filter(pk=unquote(object_id)).first() if "\x00" not in object_id else None
        if room is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        before, after = (_number(request.GET.get(word)) for word in ("before", "after"))
        shown = {
            **self.admin_site.each_context(request),
            "title": f"{room.first} and {room.second}",
            "opts": self.opts,
            "room": room,
            "transcript": transcript(request.user, room, before=before, after=after),
            "messages_url": f"{reverse('admin:chat_message_changelist')}?room__exact={room.pk}",
        }
        record(request.user, Verb.READ, room)
        return TemplateResponse(request, "admin/chat/transcript.html", shown)

    def attachment_view(self, request: HttpRequest, object_id: str, attachment_id: str) -> HttpResponseBase:
        rows = Attachment.objects.visible_to(request.user).filter(room=object_id, pk=attachment_id)
        found = rows.first() if self.has_view_permission(request) else None
        if found is None:
            raise Http404
        record(request.user, Verb.READ, found)
        return attachments.give(request, found)

    def hold_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._do(request, object_id, legal_hold.hold, request.POST.get("reason", ""))

    def release_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._do(request, object_id, legal_hold.release)

    def _do(self, request: HttpRequest, room_id: str, act: Any, *command: str) -> HttpResponse:
        """Do it where it was posted, and go back to the transcript."""
        if request.method == "POST":
            try:
                act(request.user, room_id, *command)
            except errors.ChatRoomNotFound:
                raise Http404 from None
            except errors.Refusal as refusal:
                notes.error(request, refusal.message)
        return HttpResponseRedirect(reverse("admin:chat_chatroom_change", args=[room_id]))


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None


class DaysFilter(RangeDateFilter):
    """From one day to another, both included, in UTC as everything here."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        first, last = (_day(self.used_parameters.get(f"{self.field_path}_{word}")) for word in ("from", "to"))
        if first:
            queryset = queryset.filter(**{f"{self.field_path}__gte": first})
        if last:
            queryset = queryset.filter(**{f"{self.field_path}__lt": last + timedelta(days=1)})
        return queryset


def _day(text: Any) -> datetime | None:
    day = parse_date_str(text) if isinstance(text, str) else None
    return datetime.combine(day, time(), UTC) if day else None


@admin.register(Message)
class MessageAdmin(NewestFirst):
    is_confidential = True
    list_display = ["sent_at", "sender", "receiver", "beginning", "message_type", "priority", "state"]
    list_filter = [
        ("sent_at", DaysFilter),  # a date hierarchy reads the whole table
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
        (None, {"fields": ["sender", "receiver", "text_shown", "files", "place", "conversation"]}),
        ("What became of it", {"fields": ["sent_at", "delivered_at", "read_at", "edited_at"]}),
        ("Deletion", {"fields": ["deleted_at", "deleted_by", "delete_reason"]}),
        ("Its kind", {"fields": ["message_type", "priority", "reply_to", "message_id"]}),
    ]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """The list shows how messages begin, so to look through it is to read."""
        asked = sorted(word for word in request.GET if request.GET[word])
        if self.has_view_permission(request):
            record(request.user, Verb.SEARCH, object_type=self.opts.label_lower, asked=asked[:20])
        return super().changelist_view(request, extra_context)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Message]:
        return super().get_queryset(request).annotate(shown_text=SHOWN_TEXT)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """The page of a room leads here with its id; a date is asked for from one day to another."""
        return lookup in ("room__exact", "sent_at_from", "sent_at_to") or super().lookup_allowed(
            lookup, value, request
        )

    @admin.display(description="text")
    def beginning(self, message: Message) -> str:
        return Truncator(message.shown()["message"]).chars(80)

    @admin.display(description="text")
    def text_shown(self, message: Message) -> str:
        return message.shown()["message"]

    @admin.display
    def conversation(self, message: Message) -> str:
        page = reverse("admin:chat_chatroom_change", args=[message.room_id])
        return format_html('<a href="{}">{} and {}</a>', page, message.room.first, message.room.second)

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
