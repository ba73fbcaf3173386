"""Changing a hospital's policy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from emergency.models import HospitalPolicy
from hplus import errors
from hplus.accounts.models import Hospital, User
from hplus.audit.actions import record
from hplus.audit.models import Verb
from hplus.realtime.actions import action


@action
def change_policy(user: User, policy: HospitalPolicy, mutual_aid: Iterable[Hospital]) -> None:
    """Save the policy as an admin of its hospital or a superuser, and record each change in the audit.

    Raises Forbidden, or Django's ValidationError for values that are none.
    """
    if not (user.is_superuser or user.administers(policy.hospital_id)):
        raise errors.Forbidden("Only an admin of the hospital may change its policy.")
    policy.full_clean(validate_unique=False)
    before = _values(HospitalPolicy.of(policy.hospital_id))
    policy.save()
    policy.mutual_aid.set(hospital for hospital in mutual_aid if hospital.pk != policy.hospital_id)
    changed = {
        name: {"from": before[name], "to": value}
        for name, value in _values(policy).items()
        if value != before[name]
    }
    if changed:
        record(user, Verb.CHANGE, policy, changed=changed)


def _values(policy: HospitalPolicy) -> dict[str, Any]:
    names = [field.attname for field in policy._meta.concrete_fields if not field.primary_key]
    aid = sorted(policy.mutual_aid.values_list("pk", flat=True))
    return {**{name: getattr(policy, name) for name in names}, "mutual_aid": aid}
