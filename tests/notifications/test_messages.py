"""The two forms of `notification`: which `data` is the envelope, and which is the notice's own."""

from __future__ import annotations

from typing import Any

import pytest

from hplus import errors
from hplus.notifications.messages import Notify

TARGET = {"target": {"role": "nurse"}}
SAID = {**TARGET, "title": "Tea", "body": "In the kitchen"}


def read(**frame: Any) -> dict[str, Any]:
    return Notify.read({"type": "notification", **frame}).model_dump(exclude_unset=True, exclude_none=True)


@pytest.mark.parametrize(
    "frame",
    [
        {**SAID, "data": {"title": "a cup", "n": 1}},
        {"data": {**SAID, "data": {"title": "a cup", "n": 1}}},
        {**TARGET, "data": {"title": "Tea", "body": "In the kitchen", "data": {"title": "a cup", "n": 1}}},
        {"title": "Tea", "data": {**SAID, "title": "Coffee", "data": {"title": "a cup", "n": 1}}},
    ],
    ids=["flat", "nested", "mixed", "flat wins"],
)
def test_flat_and_nested_form_are_equal(frame: dict[str, Any]) -> None:
    assert read(**frame) == {
        "target": {"role": "nurse"},
        "title": "Tea",
        "body": "In the kitchen",
        "data": {"title": "a cup", "n": 1},
    }


def test_null_field_is_treated_as_absent() -> None:
    assert read(**SAID, data=None, category=None, priority=None, action=None) == SAID


@pytest.mark.parametrize(
    "frame",
    [
        {"action": "markRead", "notificationId": "7"},
        {"data": {"action": "markRead", "notificationId": "7"}},
        {"action": "markRead", "data": {"notificationId": "7"}},
    ],
)
def test_mark_as_read_is_accepted_in_every_form(frame: dict[str, Any]) -> None:
    assert read(**frame) == {"action": "markRead", "notification_id": "7"}


@pytest.mark.parametrize(
    ("frame", "field"),
    [
        ({**SAID, "target": None}, "target"),
        ({**SAID, "target": {}}, "target"),
        ({**SAID, "target": {"userId": " "}}, "target"),
        ({**SAID, "target": "everyone"}, "target"),
        ({**SAID, "target": {"role": "patient"}}, "target.role"),
        ({**SAID, "title": None}, "title"),
        ({**SAID, "title": "  "}, "title"),
        ({**SAID, "title": "x" * 201}, "title"),
        ({**SAID, "body": None}, "body"),
        ({**SAID, "body": 7}, "body"),
        ({**SAID, "priority": "whenever"}, "priority"),
        ({**SAID, "category": "message"}, "category"),
        ({**SAID, "category": "emergencyEscalated"}, "category"),
        ({**SAID, "data": ["a"]}, "data"),
        ({**SAID, "data": {"a": "x" * 4096}}, "data"),
        ({**SAID, "action": "shout"}, "action"),
        ({"action": "markRead"}, "notificationId"),
        ({"action": "markRead", "notificationId": " "}, "notificationId"),
    ],
)
def test_invalid_field_is_named(frame: dict[str, Any], field: str) -> None:
    with pytest.raises(errors.ValidationFailed) as refused:
        read(**frame)
    assert refused.value.details["field"] == field
