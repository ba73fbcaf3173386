"""The admin page of a hospital: whom it alerts, when it escalates, its targets and its diversion."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
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
from emergency.models import HospitalPolicy, Priority, default_targets
from hplus import errors
from hplus.accounts.admin import HospitalAdmin as PlainHospitalAdmin
from hplus.accounts.models import STAFF_ROLES, Hospital

DAY = 24 * 3600
TARGETS_HELP = "In seconds from the call; what nine in ten should keep."
ESCALATIONS = {f"escalate_{priority}": priority for priority in reversed(Priority.values)}
TARGETS = {f"target_{step}": step for step in default_targets()}
DIVERSION = ("is_on_diversion", "diversion_reason", "diversion_until")


def _seconds(label: str, *, required: bool) -> forms.IntegerField:
    return forms.IntegerField(
        label=label, min_value=1, max_value=DAY, required=required, widget=UnfoldAdminIntegerFieldWidget
    )


class HospitalForm(forms.ModelForm):
    """The hospital with its policy, each number in a field of its own."""

    alert_roles = forms.MultipleChoiceField(
        choices=[(role, role) for role in STAFF_ROLES],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="Who is alerted first; when it escalates, all staff are.",
    )
    escalate_critical = _seconds("Critical", required=False)
    escalate_high = _seconds("High", required=False)
    escalate_medium = _seconds("Medium", required=False)
    escalate_low = _seconds("Low", required=False)
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

    def policy(self, hospital: Hospital) -> HospitalPolicy:
        """The policy with the submitted values, not saved yet."""
        fields = self.cleaned_data
        policy = HospitalPolicy.of(hospital.pk)
        escalations = {priority: fields[name] for name, priority in ESCALATIONS.items() if fields[name]}
        policy.alert_roles, policy.escalation_seconds = fields["alert_roles"], escalations or None
        policy.targets = {step: fields[name] for name, step in TARGETS.items()}
        return policy


def _as_fields(policy: HospitalPolicy, hospital: Hospital | None) -> dict[str, Any]:
    escalations = policy.escalation_seconds or {}
    targets = {**default_targets(), **policy.targets}
    return {
        "alert_roles": policy.alert_roles,
        **{name: escalations.get(priority) for name, priority in ESCALATIONS.items()},
        **{name: targets[step] for name, step in TARGETS.items()},
        **{name: getattr(hospital, name) for name in DIVERSION if hospital},
    }


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
            ("Who is alerted first", {"fields": ["alert_roles"]}),
            (
                "Escalation, when nobody accepts",
                {
                    "fields": list(ESCALATIONS),
                    "description": "In seconds. Empty: as set for the whole installation.",
                },
            ),
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
        form.policy(obj).save()
        if set(DIVERSION) & set(form.changed_data):
            self._divert(request, form.cleaned_data)

    def _divert(self, request: HttpRequest, fields: dict[str, Any]) -> None:
        diversion = SetDiversion(
            on_diversion=fields["is_on_diversion"],
            reason=fields["diversion_reason"] or None,
            until=fields["diversion_until"],
        )
        try:
            set_diversion(request.user, diversion)
        except errors.Refusal as refusal:
            messages.error(request, refusal.message)
