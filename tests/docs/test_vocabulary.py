"""The names that the field's standard terms replaced do not come back: in code, texts, metrics or paths.

What stands here on the left was once a name in this code; on the right is the term in use today.
"""

from __future__ import annotations

import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Forbidden in every file, also as a part of a name (`_deeds`, `deedOf`).
WORDS = {
    "deed": "action",
    "deeds": "actions",
    "wish": "command, request",
    "wishes": "commands, requests",
    "retell": "rebuild",
    "retold": "rebuilt",
    "letter": "mailbox entry",
    "letters": "mailbox entries",
    "parcel": "envelope",
    "parcels": "envelopes",
    "switchboard": "hub",
    "announcer": "publisher",
    "slot": "user stream",
    "seats": "has_connection",
    "glance": "conflation",
    "glances": "conflation",
    "fleeting": 'delivery = "latest" or "live"',
    "duty": "periodic job",
    "duties": "periodic jobs",
    "door": "admission",
    "intake": "inbound",
    "breath": "frame rate limit",
    "ears": "consumers",
    "desk": "admin site, admin_client",
    "desks": "admin classes",
}
# Forbidden in texts: comments, docstrings, messages, documents.
PHRASES = {
    r"told again|tells? again|telling again": "rebuilt",
    r"at leisure": "batched",
    r"out of breath": "rate limited",
    r"catch(es|ing)? up": "replay",
    r"(its|the|next|a) rounds?(?= (of|begins?|finds?|tries)|[.,;:]|$)": "reconciliation",
    r"(each|every|one|this|that|a|which|what|new|other|durable|same) word(?! of)": "type, message",
    r"(the|these|those|all|other|published) words": "messages, types",
    r"things, words|words, deeds|deeds and ears": "models, messages, actions, consumers",
    r"(says?|said|tells?|told) goodbye": "marks offline, closes",
    r"at the house|of the house": "hospital, HPlus",
}
# Forbidden as a whole identifier in Python.
NAMES = {
    "tell": "publish",
    "Answer": "Result",
    "Wish": "Command",
    "joins": "subscribe",
    "repeats": "is_duplicate, replayed",
    "Done": "ActionResult",
    "word": "type, event_type",
    "words": "types, messages",
    "Letter": "MailboxEntry",
    "Parcel": "Envelope",
    "Post": "Delivery",
    "Switchboard": "Hub",
    "Announcer": "Publisher",
    "speak_from": "set_publisher",
    "is_here": "has_connection",
    "Slot": "UserStream",
    "paced": 'delivery = "latest"',
    "prompt": 'delivery = "live"',
    "withdraws": "revokes",
    "Found": "Findings",
    "catching_up": "replay",
    "waking": "push_wakeups",
    "wakes": "wakeups",
    "Duty": "PeriodicJob",
    "apart": "own_thread",
    "bury_dead_servers": "expire_dead_servers",
    "say_goodbye_for_the_gone": "expire_presence",
    "miss_the_unanswered": "mark_missed_calls",
    "let_the_dropped_go": "drop_lost_participants",
    "Socket": "Client",
    "Visit": "ConnectionLifecycle",
    "at_the_door": "admission",
    "one_by_one": "run_queued",
    "Intake": "Inbound",
    "Outbox": "Outbound",
    "out_of_breath": "frame_limits",
    "credits": "message_limits",
    "spend_credit": "take_message_credit",
    "greet_late": "on_settled",
    "must_hold": "must_buffer",
    "_held": "_buffered",
    "bridge": "db_threads",
    "in_thread": "in_db_thread",
    "Line": "Deadline",
    "away": "database_unavailable",
    "quiet": "no_reply",
    "always_heard": "urgent",
    "doubled": "flattened",
    "matter": "reason_id",
    "sight": "visible_position",
    "record_at_leisure": "record_batched",
    "Reading": "PositionAccess",
    "desk": "admin_client",
    "house": "hospital",
}
# Forbidden as identifiers only where the old meaning was at home; elsewhere these are ordinary words.
NAMES_IN = {
    r"consumers\.py$": {
        "hear": "on_event",
        "wrote": "on_delivered",
        "greet": "on_connect",
        "left": "on_disconnect",
        "acknowledged": "on_ack",
    },
    r"^(hplus|chat|emergency|location|calls)/": {
        "says": "events",
        "rounds": "reconciliation",
        "look": "reconcile",
        "holds": "buffers_delivery",
        "let_in": "admit",
    },
    r"^emergency/": {"odd": "unreadable"},
    r"conftest\.py$": {"people": "users"},
}
# Modules that have other names today.
PATHS = {
    "realtime/": [
        *("tell", "deeds", "announcer", "switchboard", "letters", "parcels", "slot", "glances", "rounds"),
        *("catching_up", "waking", "rows", "duties", "door", "visit", "socket", "intake", "outbox"),
        *("breath", "ears", "bridge", "pace"),
    ],
    "emergency/": ["telling", "story", "requesting", "responding", "reading"],
    "location/": ["matter", "sight", "reading"],
    "chat/": ["holding", "notice", "reading"],
    "calls/": ["placing", "leaving"],
    "hplus/accounts/": ["browsers", "throttle"],
    "hplus/": ["in_time", "pages", "site", "security", "rest", "deeds", "duties"],
}
PATHS_KEPT = {"hplus/realtime/rest.py": "the HTTP face of actions has this name today"}

# English and other people's names that only look like the old ones.
ORDINARY = (
    r"(?<![a-z])(on|off)[-_\s]*duty(?![a-z])",  # crews at work
    r"\b(capital|upper-?case|lower-?case|small) letters\b|\bletters? (case|and digits)\b",  # of a text
    r"__slots__|\bslots=True\b",  # Python
    r"\bletter-spacing\b|\bfirst-letter\b",  # CSS
    r"\bshort(ness)? of breath\b",  # a patient's
)
NOT_OURS = (
    "hplus/static/hplus/vendor/",
    "/migrations/",  # they name the tables and columns of their time
    "requirements",
    "docs/screenshots/",
    "tests/docs/test_vocabulary.py",
)


def sources() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for path in listed.stdout.splitlines() if not any(part in path for part in NOT_OURS)]


SOURCES = sources()


def parts_of(line: str) -> list[str]:
    """The words in a line, also those that a name is composed of."""
    return [part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", line)]


def blanked(ordinary: re.Match[str]) -> str:
    """As many lines as before, without the ordinary words."""
    return "\n" * ordinary[0].count("\n")


def faults_in_text(text: str) -> Iterator[str]:
    for ordinary in ORDINARY:
        text = re.sub(ordinary, blanked, text, flags=re.IGNORECASE)
    for number, line in enumerate(text.splitlines(), 1):
        for word in WORDS.keys() & set(parts_of(line)):
            yield f"{number}: {word!r} is {WORDS[word]} today"
        for phrase, today in PHRASES.items():
            if found := re.search(rf"\b({phrase})\b", line, re.IGNORECASE):
                yield f"{number}: {found[0]!r} is {today} today"


def faults_in_names(path: str, text: str) -> Iterator[str]:
    forbidden = dict(NAMES)
    for place, names in NAMES_IN.items():
        if re.search(place, path):
            forbidden |= names
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME and token.string in forbidden:
            yield f"{token.start[0]}: {token.string!r} is {forbidden[token.string]} today"


@pytest.mark.parametrize("path", SOURCES)
def test_file_uses_the_terms_of_today(path: str) -> None:
    try:
        text = (ROOT / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return  # a picture
    faults = [*faults_in_text(text), *(faults_in_names(path, text) if path.endswith(".py") else ())]
    assert not faults, "\n".join([path, *faults])


def test_no_module_has_its_former_name() -> None:
    former = [
        path
        for path in SOURCES
        for place, names in PATHS.items()
        if place in path and Path(path).stem in names and path not in PATHS_KEPT
    ]
    assert former == []
