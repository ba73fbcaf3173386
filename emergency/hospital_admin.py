"""The admin page of a hospital: its policy in words, and its diversion."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.validators import RegexValidator
from django.http import HttpRequest
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from emergency.actions import set_diversion
from emergency.messages import SetDiversion
from emergency.models import LIMITS, HospitalPolicy, Priority, default_targets
from emergency.policy import change_policy
from hplus import errors
from hplus.accounts.admin import HospitalAdmin as PlainHospitalAdmin
from hplus.accounts.models import STAFF_ROLES, Hospital
from hplus.api import requests

DAY = 24 * 3600
TARGETS_HELP = "In seconds from the call; what nine in ten should keep."
ESCALATIONS = {f"escalate_{priority}": priority for priority in reversed(Priority.values)}
TARGETS = {f"target_{step}": step for step in default_targets()}
LIMIT_FIELDS = {f"limit_{name}": name for name in LIMITS}
ROLES = ("alert_roles", "accept_roles", "chart_roles")
DIVERSION = ("is_on_diversion", "diversion_reason", "diversion_until")


def _seconds(label: str, *, required: bool) -> forms.IntegerField:
    return forms.IntegerField(
        label=label, min_value=1, max_value=DAY, required=required, widget=UnfoldAdminIntegerFieldWidget
    )


def _roles(label: str, help_text: str) -> forms.MultipleChoiceField:
    return forms.MultipleChoiceField(
        label=label,
        choices=[(role, role) for role in STAFF_ROLES],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text=help_text,
    )


class HospitalForm(forms.ModelForm):
    """The hospital with its policy, each number in a field of its own."""

    alert_roles = _roles("Alerted first", "Who is alerted first; when it escalates, all staff are.")
    accept_roles = _roles(
        "Accept calls", "Who may accept a call for help; besides, whoever was alerted to it."
    )
    chart_roles = _roles(
        "Read charts", "Who reads condition, vital signs and notes; besides, whoever was alerted to it."
    )
    emergency_number = forms.CharField(
        label="Emergency number",
        max_length=20,
        validators=[RegexValidator(r"^[+*#\d][*#\d ()/-]*$", "A telephone number.")],
        widget=UnfoldAdminTextInputWidget,
        help_text="What a caller is asked to dial where nobody here can be reached.",
    )
    mutual_aid = forms.ModelMultipleChoiceField(
        label="Hospitals that help",
        queryset=Hospital.objects.none(),
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="They are alerted where nobody here accepts.",
    )
    escalate_critical = _seconds("Critical", required=False)
    escalate_high = _seconds("High", required=False)
    escalate_medium = _seconds("Medium", required=False)
    escalate_low = _seconds("Low", required=False)
    limit_acknowledge = _seconds("Assigned by somebody else, and not acknowledged", required=False)
    limit_turnout = _seconds("Accepted, and not under way", required=False)
    limit_unreachable = _seconds("Assignee without connection and position", required=False)
    limit_object = _seconds("The caller may object to a cancellation", required=False)
    target_alert = _seconds("Alerted within", required=True)
    target_accept = _seconds("Accepted within", required=True)
    target_scene = _seconds("On scene within", required=True)
    is_on_diversion = forms.BooleanField(
        label="On diversion",
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text="Phones of staff and patients are told at once. Calls for help are still accepted.",
    )
    diversion_reason = forms.CharField(
        label="Reason", max_length=500, required=False, widget=UnfoldAdminTextInputWidget
    )
    diversion_until = forms.SplitDateTimeField(
        label="Until", required=False, widget=UnfoldAdminSplitDateTimeWidget, help_text="Ends by itself then."
    )

    class Meta:
        model = Hospital
        fields = ["hospital_id", "name"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        hospital = kwargs.get("instance")
        policy = HospitalPolicy.of(hospital.pk if hospital else "")
        kwargs["initial"] = {**_as_fields(policy, hospital), **(kwargs.get("initial") or {})}
        super().__init__(*args, **kwargs)
        others = Hospital.objects.exclude(pk=hospital.pk) if hospital else Hospital.objects.all()
        self.fields["mutual_aid"].queryset = others

    def policy(self, hospital: Hospital) -> HospitalPolicy:
        """Return the policy with the submitted values, not saved yet."""
        fields = self.cleaned_data
        policy = HospitalPolicy.of(hospital.pk)
        for name in (*ROLES, "emergency_number"):
            setattr(policy, name, fields[name])
        policy.escalation_seconds = _given(fields, ESCALATIONS)
        policy.limit_seconds = _given(fields, LIMIT_FIELDS)
        policy.targets = {step: fields[name] for name, step in TARGETS.items()}
        return policy


def _given(fields: dict[str, Any], names: dict[str, str]) -> dict[str, int] | None:
    """The seconds that were entered, by their names in the policy; None where there are none."""
    return {name: fields[field] for field, name in names.items() if fields[field]} or None


def _as_fields(policy: HospitalPolicy, hospital: Hospital | None) -> dict[str, Any]:
    escalations, limits = policy.escalation_seconds or {}, policy.limit_seconds or {}
    targets = {**default_targets(), **policy.targets}
    return {
        **{name: getattr(policy, name) for name in (*ROLES, "emergency_number")},
        "mutual_aid": list(policy.mutual_aid.values_list("pk", flat=True)),
        **{name: limits.get(limit) for name, limit in LIMIT_FIELDS.items()},
        **{name: escalations.get(priority) for name, priority in ESCALATIONS.items()},
        **{name: targets[step] for name, step in TARGETS.items()},
        **{name: getattr(hospital, name) for name in DIVERSION if hospital},
    }


def _defaults_text() -> str:
    defaults = ", ".join(f"{LIMITS[name]}" for name in LIMIT_FIELDS.values())
    return f"In seconds. Empty: {defaults}."


admin.site.unregister(Hospital)


@admin.register(Hospital)
class HospitalAdmin(PlainHospitalAdmin):
    form = HospitalForm
    fields = None  # type: ignore[assignment] # get_fieldsets instead

    def get_fieldsets(self, request: HttpRequest, obj: Hospital | None = None) -> list[Any]:
        diversion = [("Diversion", {"fields": list(DIVERSION)})] if obj else []
        return [
            (None, {"fields": ["hospital_id", "name"]}),
            *diversion,
            ("Who is alerted, accepts and reads charts", {"fields": list(ROLES)}),
            ("Where nobody here answers", {"fields": ["emergency_number", "mutual_aid"]}),
            (
                "Escalation, when nobody accepts",
                {
                    "fields": list(ESCALATIONS),
                    "description": "In seconds. Empty: as set for the whole installation.",
                },
            ),
            ("Overdue after", {"fields": list(LIMIT_FIELDS), "description": _defaults_text()}),
            ("Response times, targets", {"fields": list(TARGETS), "description": TARGETS_HELP}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Hospital | None = None) -> tuple[str, ...]:
        """Only an admin of the hospital may set the diversion: the action refuses anybody else."""
        may_divert = obj is not None and request.user.administers(obj.pk)
        return (*(("hospital_id",) if obj else ()), *(() if may_divert else DIVERSION))

    def save_model(self, request: HttpRequest, obj: Hospital, form: HospitalForm, change: bool) -> None:
        """Save the name and the policy; set the diversion through its action, which publishes it."""
        if change:
            Hospital.objects.filter(pk=obj.pk).update(name=obj.name)
        else:
            super().save_model(request, obj, form, change)
        change_policy(request.user, form.policy(obj), form.cleaned_data["mutual_aid"])
        if set(DIVERSION) & set(form.changed_data):
            self._divert(request, form.cleaned_data)

    def _divert(self, request: HttpRequest, fields: dict[str, Any]) -> None:
        is_on, until = fields["is_on_diversion"], fields["diversion_until"]
        diversion = {
            "onDiversion": is_on,
            "reason": fields["diversion_reason"] or None,
            "until": until.isoformat() if is_on and until else None,
        }
        try:
            set_diversion(request.user, requests.read(SetDiversion, diversion))
        except errors.Refusal as refusal:
            messages.error(request, refusal.message)
