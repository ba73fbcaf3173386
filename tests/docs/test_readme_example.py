"""README's example of a new message type works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import indent
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from calls import actions, consumers, messages
from hplus.routing import HPlusConsumer
from tests.servers import ThreadServer

README = Path(__file__).resolve().parents[2] / "README.md"
BLOCK = re.compile(r"```python\n# (\S+\.py):[^\n]*\n(.*?)```", re.DOTALL)


def blocks() -> dict[str, str]:
    """The code for each file."""
    example = README.read_text(encoding="utf-8").partition("### A new message type")[2]
    return dict(BLOCK.findall(example.partition("\n## ")[0]))


def added_to(module: ModuleType, code: str, **names: Any) -> SimpleNamespace:
    """The module with this code at its end, as a copy: the module itself stays as it is."""
    scope = {**vars(module), **names, "__name__": __name__}
    exec(compile(code, f"README: {module.__name__}", "exec", dont_inherit=True), scope)
    return SimpleNamespace(**scope)


async def test_example_works_over_a_socket(server: ThreadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    code = blocks()
    messages_now = added_to(messages, code["calls/messages.py"])
    actions_now = added_to(actions, code["calls/actions.py"], messages=messages_now)
    method = "class Extended(CallsConsumer):\n" + indent(code["calls/consumers.py"], "    ")
    extended = added_to(consumers, method, messages=messages_now, actions=actions_now).Extended
    extended.handlers = (*consumers.CallsConsumer.handlers, *extended.handlers)
    domains = [extended if kind is consumers.CallsConsumer else kind for kind in HPlusConsumer.domains]
    monkeypatch.setattr(HPlusConsumer, "domains", tuple(domains))

    scope: dict[str, Any] = {"ThreadServer": ThreadServer}
    exec(compile(code["tests/calls/test_ask_for_call.py"], "README: its test", "exec"), scope)
    [its_test] = [value for name, value in scope.items() if name.startswith("test_")]
    await its_test(server)


def test_example_is_as_small_as_promised() -> None:
    code = blocks()
    assert code["calls/actions.py"].count("def ") == 1
    assert len(code["calls/consumers.py"].strip().splitlines()) == 3  # the decorator and two lines
