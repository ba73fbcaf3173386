"""Conversations in the admin site, read only, with their transcript and the legal hold."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

from django.contrib import admin
from django.contrib import messages as admin_messages
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
from chat.models import ChatRoom, Message
from chat.transcript import transcript
from hplus import errors
from hplus.admin_site.tenancy_admin import TenancyAdmin
from hplus.audit.actions import record
from hplus.audit.models import Verb

# Search must not find the text of a deleted message: trying words would reveal it.
SEARCHABLE_TEXT = Case(When(deleted_at=None, then=F("text")), default=Value(""), output_field=TextField())


class NewestFirstAdmin(TenancyAdmin):
    """A table that only grows, ordered by its key, which is ordered by time and indexed.

    Other orders, and a search beyond the newest rows, are left out: they would read the whole table.
    """

    SEARCHED_ROWS = 50_000

    ordering = ["-pk"]
    sortable_by: list[str] = []
    search_help_text = f"Searches the newest {SEARCHED_ROWS:,} that the filters leave."

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if search_term:
            newest = queryset.order_by("-pk").values_list("pk", flat=True)
            # Fetched first, because with a subquery the planner searches all rows before it limits them.
            oldest = newest[self.SEARCHED_ROWS : self.SEARCHED_ROWS + 1].first()
            queryset = queryset if oldest is None else queryset.filter(pk__gt=oldest)
        return super().get_search_results(request, queryset, search_term)


@admin.register(ChatRoom)
class ChatRoomAdmin(NewestFirstAdmin):
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
            path(
                f"<str:object_id>/{address}/", self.admin_site.admin_view(view), name=f"chat_{view.__name__}"
            )
            for address, view in own
        ]
        return [*pages, *super().get_urls()]

    # The transcript

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.method not in ("GET", "HEAD") or not self.has_view_permission(request):
            return super().change_view(request, object_id, *args, **kwargs)  # refuses it
        rooms = self.get_queryset(request).select_related("hospital", "first", "second", "held_by")
        room = rooms.with_id(unquote(object_id)).first()
        if room is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        before, after = (_number(request.GET.get(name)) for name in ("before", "after"))
        context = {
            **self.admin_site.each_context(request),
            "title": f"{room.first} and {room.second}",
            "opts": self.opts,
            "room": room,
            "transcript": transcript(request.user, room, before=before, after=after),
            "messages_url": f"{reverse('admin:chat_message_changelist')}?room__exact={room.pk}",
        }
        record(request.user, Verb.READ, room)
        return TemplateResponse(request, "admin/chat/transcript.html", context)

    def attachment_view(self, request: HttpRequest, object_id: str, attachment_id: str) -> HttpResponseBase:
        room = self.get_object(request, unquote(object_id))
        found = room and room.attachments.visible_to(request.user).with_id(attachment_id).first()
        if found is None or not self.has_view_permission(request):
            raise Http404
        record(request.user, Verb.READ, found)
        return attachments.response_with(request, found)

    def hold_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._post(request, object_id, legal_hold.hold, request.POST.get("reason", ""))

    def release_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._post(request, object_id, legal_hold.release)

    def _post(self, request: HttpRequest, room_id: str, action: Any, *arguments: str) -> HttpResponse:
        """Call the action if the request is a POST, then go back to the transcript."""
        if request.method == "POST":
            try:
                action(request.user, room_id, *arguments)
            except errors.ChatRoomNotFound:
                raise Http404 from None
            except errors.Refusal as refusal:
                admin_messages.error(request, refusal.message)
        return HttpResponseRedirect(reverse("admin:chat_chatroom_change", args=[room_id]))


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None


class DaysFilter(RangeDateFilter):
    """A range of days in UTC, both ends included."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        first, last = (_day(self.used_parameters.get(f"{self.field_path}_{end}")) for end in ("from", "to"))
        if first:
            queryset = queryset.filter(**{f"{self.field_path}__gte": first})
        if last:
            queryset = queryset.filter(**{f"{self.field_path}__lt": last + timedelta(days=1)})
        return queryset


def _day(text: Any) -> datetime | None:
    day = parse_date_str(text) if isinstance(text, str) else None
    return datetime.combine(day, time(), UTC) if day else None


@admin.register(Message)
class MessageAdmin(NewestFirstAdmin):
    is_confidential = True
    list_display = ["sent_at", "sender", "receiver", "beginning", "message_type", "priority", "state"]
    list_filter = [
        ("sent_at", DaysFilter),  # a date hierarchy would read the whole table
        "message_type",
        "priority",
        ("deleted_at", admin.EmptyFieldListFilter),
    ]
    list_select_related = ["sender", "receiver"]
    search_fields = [
        "=message_id",
        "searchable_text",
        "sender__user_id",
        "sender__name",
        "receiver__user_id",
        "receiver__name",
    ]
    fieldsets = [
        (None, {"fields": ["sender", "receiver", "text_shown", "files", "place", "conversation"]}),
        ("Delivery", {"fields": ["sent_at", "delivered_at", "read_at", "edited_at"]}),
        ("Deletion", {"fields": ["deleted_at", "deleted_by", "delete_reason"]}),
        ("Type", {"fields": ["message_type", "priority", "reply_to", "message_id"]}),
    ]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Record the search in the audit, because the list shows the beginnings of messages."""
        parameters = sorted(name for name in request.GET if request.GET[name])
        if self.has_view_permission(request):
            record(request.user, Verb.SEARCH, object_type=self.opts.label_lower, asked=parameters[:20])
        return super().changelist_view(request, extra_context)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Message]:
        return super().get_queryset(request).annotate(searchable_text=SEARCHABLE_TEXT)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Allow the link from a room's page, and the range of days."""
        return lookup in ("room__exact", "sent_at_from", "sent_at_to") or super().lookup_allowed(
            lookup, value, request
        )

    @admin.display(description="text")
    def beginning(self, message: Message) -> str:
        return Truncator(message.visible_content()["message"]).chars(80)

    @admin.display(description="text")
    def text_shown(self, message: Message) -> str:
        return message.visible_content()["message"]

    @admin.display
    def conversation(self, message: Message) -> str:
        page = reverse("admin:chat_chatroom_change", args=[message.room_id])
        return format_html('<a href="{}">{} and {}</a>', page, message.room.first, message.room.second)

    @admin.display
    def files(self, message: Message) -> str:
        return ", ".join(_file_name(file) for file in message.visible_content()["attachments"] or [])

    @admin.display
    def place(self, message: Message) -> str:
        place: dict[str, Any] = message.visible_content()["location"] or {}
        return ", ".join(str(place[key]) for key in ("lat", "lng", "address") if place.get(key) is not None)

    @admin.display
    def state(self, message: Message) -> str:
        if message.deleted_at:
            return "deleted"
        if message.read_at:
            return "read"
        return "delivered" if message.delivered_at else "sent"


def _file_name(file: dict[str, Any]) -> str:
    return str(file.get("name") or file.get("url") or "a file without a name")
