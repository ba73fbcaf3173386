"""People, hospitals and sessions in the admin site."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Field, QuerySet
from django.http import HttpRequest
from django.utils.module_loading import import_string
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from hplus.accounts import actions as accounts
from hplus.accounts.models import STAFF_ROLES, Hospital, Role, Session, User
from hplus.admin_site.tenancy_admin import TenancyAdmin, may_administer
from hplus.errors import Refusal

admin.site.unregister(Group)  # role and hospital decide, so groups would only pretend to


@admin.register(Hospital)
class HospitalAdmin(TenancyAdmin):
    # Diversion is read only here: a change must be published, so it is made by an action of its own.
    diversion = ("is_on_diversion", "diversion_reason", "diversion_until")
    fields = ["hospital_id", "name", *diversion]
    list_display = ["name", "hospital_id", "open_or_not"]
    search_fields = ["name", "hospital_id"]

    @admin.display(description="diversion")
    def open_or_not(self, hospital: Hospital) -> str:
        return "on diversion" if hospital.is_on_diversion else "–"

    def get_readonly_fields(self, request: HttpRequest, obj: Hospital | None = None) -> tuple[str, ...]:
        return ("hospital_id", *self.diversion) if obj else self.diversion

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may_administer(request.user) and request.user.is_superuser

    def has_change_permission(self, request: HttpRequest, obj: Hospital | None = None) -> bool:
        return may_administer(request.user)


# People


class PersonForm(forms.ModelForm):
    """Explains in a sentence what a database constraint would only refuse: staff belong to a hospital."""

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        is_free = self._will_be("role") == Role.PATIENT or self._will_be("is_superuser")
        if not is_free and not self._will_be("hospital"):
            self.add_error("hospital", "Staff belong to a hospital.")
        return cleaned

    def _will_be(self, field: str) -> Any:
        return self.cleaned_data.get(field, getattr(self.instance, field))


class NewPersonForm(PersonForm, UserCreationForm):
    class Meta:
        model = User
        fields = ["user_id", "name", "role", "hospital", "department", "specialization"]


class KnownPersonForm(PersonForm, UserChangeForm):
    class Meta:
        model = User
        fields = "__all__"  # noqa: DJ007 the page's fieldsets choose

    def clean(self) -> dict[str, Any]:
        """Refuse the move of somebody who is with a patient."""
        cleaned = super().clean()
        if {"role", "hospital"} & set(self.changed_data):
            try:
                import_string(settings.MAY_MOVE)(self.instance)
            except Refusal as refusal:
                self.add_error(None, str(refusal))
        return cleaned


class PasswordForm(AdminPasswordChangeForm):
    """A new password ends the sessions opened with the old one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields.pop("usable_password", None)  # there is no way in without a password

    def save(self, commit: bool = True) -> User:
        accounts.set_password(self.user, self.cleaned_data["password1"])
        return self.user


@admin.register(User)
class UserAdmin(TenancyAdmin, DjangoUserAdmin):
    """An admin sees the hospital's staff and patients, and changes its staff."""

    form, add_form, change_password_form = KnownPersonForm, NewPersonForm, PasswordForm
    list_display = ["user_id", "name", "role", "hospital", "department", "is_active"]
    list_select_related = ["hospital"]
    search_fields = ["user_id", "name", "department", "specialization"]
    ordering = ["user_id"]
    filter_horizontal: list[str] = []
    actions = ["deactivate", "reactivate", "sign_out"]
    exported = ["user_id", "name", "role", "hospital", "department", "is_active", "joined_at", "last_login"]

    person = ("name", "role", "hospital", "department", "specialization")
    past = ("is_active", "joined_at", "last_login")

    def get_list_filter(self, request: HttpRequest) -> list[str]:
        return ["role", "is_active", *(["hospital"] if request.user.is_superuser else [])]

    def save_model(self, request: HttpRequest, obj: User, form: forms.ModelForm, change: bool) -> None:
        """Another role or hospital is a move, which ends all that belongs to the former place."""
        if change and {"role", "hospital"} & set(form.changed_data):
            known = User.objects.get(pk=obj.pk)
            move = import_string(settings.MOVE)
            move(request.user, known, role=obj.role, hospital_id=obj.hospital_id)
            _leave_ended(request, [obj])
            obj.is_staff = obj.is_staff and not obj.is_patient
        super().save_model(request, obj, form, change)

    # What the page shows

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> list[Any]:
        return [(None, {"fields": ["user_id", *self._fields_below(request, obj)]})]

    def _fields_below(self, request: HttpRequest, obj: User | None) -> list[str]:
        if obj is None:
            return [*self.person, "password1", "password2"]
        if not self.has_change_permission(request, obj):
            return [*self.person, *self.past]
        entry = ["is_staff", "is_superuser"] if request.user.is_superuser else ["is_staff"]
        return ["password", *self.person, *entry, *self.past]

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        """Deactivating is an action, because it also ends sessions; nobody can revoke their own rights."""
        if obj is None:
            return []
        own = ["role", "is_staff", "is_superuser"] if obj == request.user else []
        return ["user_id", *self.past, *own]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"hospital": request.user.hospital_id, **super().get_changeform_initial_data(request)}

    def formfield_for_choice_field(self, db_field: Field, request: HttpRequest, **kwargs: Any) -> Any:
        """Offer no patient: a patient belongs to no hospital, so no hospital's admin makes one."""
        if db_field.name == "role" and not request.user.is_superuser:
            kwargs["choices"] = [choice for choice in Role.choices if choice[0] in STAFF_ROLES]
        return super().formfield_for_choice_field(db_field, request, **kwargs)

    # Who may

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may_administer(request.user)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        if obj is None or not may_administer(request.user):
            return may_administer(request.user)
        return User.objects.managed_by(request.user).filter(pk=obj.pk).exists()

    # What can be done

    def get_buttons(self, request: HttpRequest, row: User) -> tuple[str, ...]:
        if row == request.user or not self.has_change_permission(request, row):
            return ()
        return ("sign_out", "deactivate") if row.is_active else ("reactivate",)

    @admin.action(description="Deactivate: end all sessions, let nobody in", permissions=["change"])
    def deactivate(self, request: HttpRequest, ticked: QuerySet[User]) -> None:
        self._set_active(request, ticked, False)

    @admin.action(description="Reactivate", permissions=["change"])
    def reactivate(self, request: HttpRequest, ticked: QuerySet[User]) -> None:
        self._set_active(request, ticked, True)

    @admin.action(description="Sign out everywhere, at once", permissions=["change"])
    def sign_out(self, request: HttpRequest, ticked: QuerySet[User]) -> None:
        chosen = list(User.objects.managed_by(request.user).filter(pk__in=[user.pk for user in ticked]))
        accounts.sign_out_everywhere(chosen, "by an administrator")
        _leave_ended(request, chosen)
        self.report(request, chosen, len(ticked), "signed out")

    @transaction.atomic
    def _set_active(self, request: HttpRequest, ticked: QuerySet[User], is_active: bool) -> None:
        """Change the ticked accounts that the user manages, except the own."""
        others = User.objects.managed_by(request.user).exclude(pk=request.user.pk)
        chosen = list(others.filter(pk__in=[user.pk for user in ticked]))
        User.objects.filter(pk__in=[user.pk for user in chosen]).update(is_active=is_active)
        if not is_active:
            accounts.sign_out_everywhere(chosen, "account deactivated")
        self.report(request, chosen, len(ticked), "reactivated" if is_active else "deactivated")


def _leave_ended(request: HttpRequest, signed_out: Sequence[User]) -> None:
    """Do not save the session of this very request where it has just been ended with the others."""
    if request.user in signed_out:
        request.session.modified = False


# Sessions


@admin.register(Session)
class SessionAdmin(TenancyAdmin):
    list_display = ["user", "device_id", "created_at", "revoked_at", "revoked_reason"]
    list_filter = [("revoked_at", admin.EmptyFieldListFilter)]
    list_select_related = ["user"]
    search_fields = ["user__user_id", "user__name", "device_id"]
    fields = ["user", "device_id", "created_at", "revoked_at", "revoked_reason"]
    actions = ["revoke"]

    def get_buttons(self, request: HttpRequest, row: Session) -> tuple[str, ...]:
        return () if row.revoked_at else ("revoke",)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return may_administer(request.user)

    @admin.action(description="Revoke: tokens and live sockets end", permissions=["revoke"])
    def revoke(self, request: HttpRequest, ticked: QuerySet[Session]) -> None:
        chosen = [session for session in ticked if session.revoked_at is None]
        Session.objects.filter(pk__in=[session.pk for session in chosen]).revoke("by an administrator")
        self.report(request, chosen, len(ticked), "revoked")
