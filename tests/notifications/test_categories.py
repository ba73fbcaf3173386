"""The categories of HPlus's own notices are HPlus's alone: nobody sends a notice that looks like one."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from hplus.notifications.messages import OWN_CATEGORIES
from tests.call_count import PACKAGES, ROOT
from tests.servers import ThreadServer


def _modules() -> Iterator[ast.Module]:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            yield ast.parse(path.read_text())


def _text(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _categories(module: ast.Module) -> Iterator[str]:
    """The constants given as `category`: by name, or by its place in a function of the same module."""
    functions = [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)]
    places = {
        function.name: names.index("category")
        for function in functions
        if "category" in (names := [argument.arg for argument in function.args.args])
    }
    for call in (node for node in ast.walk(module) if isinstance(node, ast.Call)):
        given = [keyword.value for keyword in call.keywords if keyword.arg == "category"]
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        if name in places and places[name] < len(call.args):
            given.append(call.args[places[name]])
        yield from filter(None, map(_text, given))


def test_each_category_that_hplus_uses_is_its_own() -> None:
    used = {category for module in _modules() for category in _categories(module)}
    assert {"missedCall", "passwordChanged", "emergencyCancelled", "deteriorating"} <= used
    assert used - set(OWN_CATEGORIES) == set()
    assert set(OWN_CATEGORIES) - used == {"message"}, "of the notice of a chat message"


@pytest.mark.parametrize("category", OWN_CATEGORIES)
async def test_staff_send_no_notice_of_such_a_category(server: ThreadServer, category: str) -> None:
    async with server.phone("nurse_001", "nurse", "hospital_001") as nurse:
        notice = {"target": {"userId": "doctor_123"}, "title": "x", "body": "x", "category": category}
        refused = await nurse.ask("notification", **notice)
        assert (refused["code"], refused["details"]["field"]) == ("VALIDATION_ERROR", "category")
