"""The base class of all admin pages: who may enter, and that each hospital sees its own rows only.

There are no permission rows. Role and hospital of the account decide, and `visible_to` of each model's
QuerySet tells which rows that means, as on the socket and in REST. Pages, lists, search, choices and
guessed addresses all go through it: another hospital's row does not exist. Changes, and the opening of
confidential rows, are recorded in the audit.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.filters import SimpleListFilter
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.templatetags.admin_urls import admin_urlname
from django.contrib.admin.utils import quote
from django.core.exceptions import BadRequest
from django.core.paginator import Paginator
from django.db import DataError
from django.db.models import Field, QuerySet
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.urls import reverse
from django.utils.functional import cached_property
from unfold.admin import ModelAdmin, TabularInline

from hplus.accounts.models import User
from hplus.admin_site.csv_export import MOST_ROWS, csv_response
from hplus.audit.actions import record
from hplus.audit.models import Verb
from hplus.protocol.texts import nfc
from hplus.protocol.wire import is_storable

MOST_TERMS, MOST_CHARACTERS = 8, 200  # of a search; each term is looked for in every column
MOST_PAGES = 100  # beyond them one searches


def may_administer(user: Any) -> bool:
    """Whether this user (or AnonymousUser) is an admin of a hospital, or a superuser."""
    if not (user.is_active and user.is_staff):
        return False
    return user.is_superuser or (user.is_hospital_admin and user.hospital_id is not None)


class ShortPaginator(Paginator):
    """Counts up to MOST_PAGES: counting all rows of a large table takes seconds.

    The count keeps the order of the list, so that the index which serves the first page serves it too.
    """

    @cached_property
    def count(self) -> int:
        most = MOST_PAGES * self.per_page
        return self.object_list[:most].count()


class TenancyAdmin(ModelAdmin):
    """Read only; a subclass allows adding or changing. Nothing can be deleted."""

    list_per_page = 50
    # Each of these would read whole tables for a number.
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = ShortPaginator
    list_filter_submit = True
    list_fullwidth = True
    # The columns that may be exported; empty where none may.
    exported: Sequence[str] = ()
    # Whether opening a row is recorded in the audit.
    is_confidential = False
    change_form_outer_before_template = "admin/buttons.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).visible_to(request.user)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Look for the first MOST_TERMS terms; a page of them would make a statement of a hundred joins."""
        if not is_storable(search_term):
            return queryset.none(), False
        terms = search_term[:MOST_CHARACTERS].split(maxsplit=MOST_TERMS)[:MOST_TERMS]
        text = " ".join(terms)
        found, has_duplicates = super().get_search_results(request, queryset, nfc(text))
        if (decomposed := unicodedata.normalize("NFD", text)) != nfc(text):  # as a message may have been sent
            found |= super().get_search_results(request, queryset, decomposed)[0]
        return found, has_duplicates

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        return super().get_object(request, nfc(object_id), from_field) if is_storable(object_id) else None

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Raises IncorrectLookupParameters for a value no column can have: a NUL, the year 99999."""
        if not is_storable(dict(request.GET.lists())):
            raise IncorrectLookupParameters
        try:
            changes = super().get_changelist_instance(request)
            changes.result_list = list(changes.result_list)
        except (ValueError, OverflowError, DataError) as impossible:
            raise IncorrectLookupParameters from impossible
        return changes

    def formfield_for_foreignkey(self, db_field: Field, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs.setdefault("queryset", _choices(db_field, request.user))
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_manytomany(self, db_field: Field, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs.setdefault("queryset", _choices(db_field, request.user))
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Allow only the list's own filters: `?password__startswith=` could spell a hash out."""
        is_offered = lookup.partition("__")[0] in self._offered_lookups(request)
        return is_offered and super().lookup_allowed(lookup, value, request)

    def _offered_lookups(self, request: HttpRequest) -> set[str]:
        filters = [_first(item) for item in self.get_list_filter(request)]
        names = [f.parameter_name if _is_simple(f) else f.partition("__")[0] for f in filters]
        return {*names, self.date_hierarchy}

    # The audit

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
        """Show what an action did, and record it in the history of each row and in the audit."""
        for row in chosen:
            self.log_change(request, row, f"{done.capitalize()}.")
        level = messages.SUCCESS if chosen else messages.WARNING
        messages.add_message(request, level, f"{len(chosen)} of {ticked} {done}.")

    # Actions of the list that the page of one row offers as buttons

    def get_buttons(self, request: HttpRequest, row: Any) -> Sequence[str]:
        """Return the names of the actions that are possible for this row now."""
        return ()

    def _buttons(self, request: HttpRequest, row: Any) -> list[tuple[str, str]]:
        """Return name and description of the actions that the user is allowed."""
        allowed = self.get_actions(request)
        return [(name, allowed[name][2]) for name in self.get_buttons(request, row) if name in allowed]

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        """Redirect back to the page of the row where its button was pressed.

        Raises BadRequest for a ticked id that no row can have.
        """
        if not all(map(queryset.is_possible_id, request.POST.getlist(ACTION_CHECKBOX_NAME))):
            raise BadRequest("An id of these rows is none.")
        response = super().response_action(request, queryset)
        if "is_button" not in request.POST or not isinstance(response, HttpResponseRedirect):
            return response
        row = quote(request.POST.get(ACTION_CHECKBOX_NAME, ""))
        return HttpResponseRedirect(reverse(admin_urlname(self.opts, "change"), args=[row]))

    # Export

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        own = {"export_csv": self.get_action("export_csv")} if self.exported else {}
        return {**super().get_actions(request), **own}

    @admin.action(description="Export as CSV")
    def export_csv(self, request: HttpRequest, ticked: QuerySet[Any]) -> HttpResponseBase:
        """Export the columns named in `exported`; the audit records it."""
        rows = ticked[:MOST_ROWS].count()
        record(request.user, Verb.EXPORT, object_type=self.opts.label_lower, rows=rows)
        return csv_response(request, ticked, self.exported, str(self.opts.model_name))

    # Rows are loaded through `visible_to`, so these need not check them again.

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
    """Rows of a related table, for users who may view the parent row."""

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


def _what_changed(message: Any) -> dict[str, Any]:
    """Return the names of the changed fields, never their values, or the message of an action."""
    if isinstance(message, str):
        return {"what": message}
    fields = [field for part in message for change in part.values() for field in change.get("fields", [])]
    return {"fields": [str(field) for field in fields]}


def _choices(db_field: Field, user: User) -> QuerySet[Any]:
    """Return the rows a form may choose; a posted id outside them is refused like an unknown one."""
    return db_field.related_model._default_manager.visible_to(user)


def _first(item: Any) -> Any:
    return item[0] if isinstance(item, list | tuple) else item


def _is_simple(item: Any) -> bool:
    return isinstance(item, type) and issubclass(item, SimpleListFilter)
