"""What every page of the admin site stands on: who may enter, and that one sees the own hospital only.

There are no permission rows. Role and hospital of the account decide, and which rows that means
is said by `visible_to` of each model's QuerySet, as on the socket and in REST. Pages, lists,
search, choices and guessed addresses all go through it: another hospital's row does not exist.
What is changed here, and what confidential is opened, is written into the audit.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.filters import SimpleListFilter
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.templatetags.admin_urls import admin_urlname
from django.contrib.admin.utils import quote
from django.core.paginator import Paginator
from django.db.models import Field, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.functional import cached_property
from unfold.admin import ModelAdmin, TabularInline

from hplus.accounts.models import User
from hplus.audit.actions import record
from hplus.audit.models import Verb

MOST_EXPORTED = 50_000
FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
SKIPPED_STARTS = ("\t", "\r", "\n")  # by spreadsheets, which then look at what follows
PAGES_TURNED = 100  # nobody turns more; whoever looks for something searches


def may_administer(user: Any) -> bool:
    """Whether somebody (also nobody: an AnonymousUser) runs a hospital here, or all of them."""
    if not (user.is_active and user.is_staff):
        return False
    return user.is_superuser or (user.is_hospital_admin and user.hospital_id is not None)


class ShortPaginator(Paginator):
    """Counts up to the last page anybody turns to: counting all of a large table takes seconds.

    In the order of the list, so that an index which leads to the first page leads to this number too.
    """

    @cached_property
    def count(self) -> int:
        most = PAGES_TURNED * self.per_page
        return self.object_list[:most].count()


class TenancyAdmin(ModelAdmin):
    """Read only; a subclass says what may be added or changed. Nothing is ever deleted here."""

    list_per_page = 50
    # Each of these would read whole tables for a number nobody asked for.
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = ShortPaginator
    list_filter_submit = True
    list_fullwidth = True
    # The columns that may leave the house; empty where none may.
    exported: Sequence[str] = ()
    # Whether opening a row is written into the audit.
    is_confidential = False
    change_form_outer_before_template = "admin/buttons.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).visible_to(request.user)

    def formfield_for_foreignkey(self, db_field: Field, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs.setdefault("queryset", _choices(db_field, request.user))
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_manytomany(self, db_field: Field, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs.setdefault("queryset", _choices(db_field, request.user))
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Only what the list offers: with any column, `?password__startswith=` would spell it out."""
        is_offered = lookup.partition("__")[0] in self._offered_lookups(request)
        return is_offered and super().lookup_allowed(lookup, value, request)

    def _offered_lookups(self, request: HttpRequest) -> set[str]:
        filters = [_first(item) for item in self.get_list_filter(request)]
        names = [f.parameter_name if _is_simple(f) else f.partition("__")[0] for f in filters]
        return {*names, self.date_hierarchy}

    # What is written into the audit

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        row = kwargs.get("obj")
        if row is not None and self.is_confidential:
            record(request.user, Verb.READ, row)
        if row is not None:
            context["buttons"] = self._buttons(request, row)
        return super().render_change_form(request, context, *args, **kwargs)

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        record(request.user, Verb.ADD, obj)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        record(request.user, Verb.CHANGE, obj, **_what_changed(message))
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        for row in queryset:
            record(request.user, Verb.DELETE, row)
        return super().log_deletions(request, queryset)

    def report(self, request: HttpRequest, chosen: list[Any], ticked: int, done: str) -> None:
        """What an action has done: to whoever did it, into the history of each row and into the audit."""
        for row in chosen:
            self.log_change(request, row, f"{done.capitalize()}.")
        level = messages.SUCCESS if chosen else messages.WARNING
        messages.add_message(request, level, f"{len(chosen)} of {ticked} {done}.")

    # Actions of the list that the page of one row offers, too

    def get_buttons(self, request: HttpRequest, row: Any) -> Sequence[str]:
        """The names of those that make sense for this row now."""
        return ()

    def _buttons(self, request: HttpRequest, row: Any) -> list[tuple[str, str]]:
        """Name and description, of those whoever asks may do."""
        known = self.get_actions(request)
        return [(name, known[name][2]) for name in self.get_buttons(request, row) if name in known]

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        """Whoever pressed a button comes back to the page with that button."""
        answer = super().response_action(request, queryset)
        if "is_button" not in request.POST or not isinstance(answer, HttpResponseRedirect):
            return answer
        row = quote(request.POST.get(ACTION_CHECKBOX_NAME, ""))
        return HttpResponseRedirect(reverse(admin_urlname(self.opts, "change"), args=[row]))

    # Export

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        own = {"export_csv": self.get_action("export_csv")} if self.exported else {}
        return {**super().get_actions(request), **own}

    @admin.action(description="Export as CSV")
    def export_csv(self, request: HttpRequest, ticked: QuerySet[Any]) -> HttpResponse:
        """Only the columns named in `exported`; that somebody took them along is written down."""
        rows = list(ticked.order_by("pk").values_list(*self.exported)[:MOST_EXPORTED])
        record(request.user, Verb.EXPORT, object_type=self.opts.label_lower, rows=len(rows))
        response = HttpResponse(content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="{self.opts.model_name}.csv"'
        # All in quotes: where a semicolon separates, one in a name would else begin a cell.
        sheet = csv.writer(response, quoting=csv.QUOTE_ALL)
        sheet.writerow(self.exported)
        sheet.writerows([_harmless(value) for value in row] for row in rows)
        return response

    # Rows are loaded through `visible_to`, so these need not look at them again.

    def has_module_permission(self, request: HttpRequest) -> bool:
        return may_administer(request.user)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_administer(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyInline(TabularInline):
    """What belongs to a row, for whoever may look at the row."""

    extra = 0
    can_delete = False
    show_change_link = False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_administer(request.user)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def _harmless(value: Any) -> str:
    """As text that a spreadsheet will not run as a formula (OWASP, CSV Injection)."""
    text = "" if value is None else value.isoformat() if isinstance(value, datetime) else str(value)
    is_risky = text.startswith(SKIPPED_STARTS) or text.lstrip().startswith(FORMULA_STARTS)
    return f"'{text}" if is_risky else text


def _what_changed(message: Any) -> dict[str, Any]:
    """The names of the fields, never what they say; the sentence where an action of ours said one."""
    if isinstance(message, str):
        return {"what": message}
    fields = [field for part in message for change in part.values() for field in change.get("fields", [])]
    return {"fields": [str(field) for field in fields]}


def _choices(db_field: Field, user: User) -> QuerySet[Any]:
    """What a form may point to; a posted id outside of it is refused like one that does not exist."""
    return db_field.related_model._default_manager.visible_to(user)


def _first(item: Any) -> Any:
    return item[0] if isinstance(item, list | tuple) else item


def _is_simple(item: Any) -> bool:
    return isinstance(item, type) and issubclass(item, SimpleListFilter)
