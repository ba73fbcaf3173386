"""Positions at any rate: the newest comes, seldom enough, and keeps nothing else waiting."""

from __future__ import annotations

import asyncio

from hplus.realtime.hub.conflation import FRAMES_AT_ONCE, REMEMBERED, Conflation, RecentEvents
from hplus.realtime.publishing.envelopes import Envelope

AUDIENCE = ("hospital", "")


class Watcher:
    """A Listener, as far as conflation needs one."""

    def __init__(self, user_id: str, *, has_room: bool = True) -> None:
        self.user_id = self.connection_id = user_id
        self.is_mobile, self.audiences, self.is_listening = False, [AUDIENCE], True
        self.has_room, self.seen = has_room, list[str]()

    def write(self, frame: str) -> None:
        self.seen.append(frame)


def position(author: str, number: int, topic: str = "") -> Envelope:
    return Envelope(
        event_type="locationUpdate", frame=f"{author}{number}", author=author, topic=topic, but=(author,)
    )


def paced() -> Conflation:
    return Conflation(lambda: 0.05, only_newest=True)


async def settled(conflation: Conflation) -> None:
    assert conflation._task is not None
    await conflation._task


def test_of_each_author_only_the_newest_is_kept_in_the_order_they_came() -> None:
    newest = RecentEvents(only_newest=True)
    for turn, envelope in enumerate([position("a", 1), position("b", 1), position("a", 2)], start=1):
        newest.put(turn, envelope)
    assert [(turn, envelope.frame) for turn, envelope in newest.since(0)] == [(2, "b1"), (3, "a2")]
    assert [turn for turn, _ in newest.since(2)] == [3]
    assert newest.since(3) == []


async def test_nobody_sees_the_own_position_or_what_came_before() -> None:
    conflation, early, late = paced(), Watcher("early"), Watcher("late")
    conflation.begin(early)
    conflation.offer(AUDIENCE, position("late", 1), [early])
    await settled(conflation)
    conflation.begin(late)
    conflation.offer(AUDIENCE, position("late", 2), [early, late])
    await settled(conflation)
    assert (early.seen, late.seen) == (["late1", "late2"], [])


async def test_what_is_withdrawn_before_it_was_seen_is_never_seen() -> None:
    conflation, watcher = paced(), Watcher("watcher")
    conflation.offer(AUDIENCE, position("crew", 1, "matter"), [watcher])
    conflation.offer(AUDIENCE, position("other", 1, "matter"), [watcher])
    conflation.revoke("crew", "matter")
    conflation.revoke("other", "another matter")
    await settled(conflation)
    assert watcher.seen == ["other1"]


async def test_a_reader_without_room_sees_the_newest_once_it_has_room() -> None:
    conflation, watcher = paced(), Watcher("slow", has_room=False)
    conflation.offer(AUDIENCE, position("crew", 1), [watcher])
    await asyncio.sleep(0.06)
    assert watcher.seen == []
    conflation.offer(AUDIENCE, position("crew", 2), [watcher])
    watcher.has_room = True
    await settled(conflation)
    assert watcher.seen == ["crew2"]


async def test_who_only_watches_sees_before_who_moves() -> None:
    conflation, order = paced(), list[str]()
    crews, desk = [Watcher(f"crew{n}") for n in range(3)], Watcher("desk")
    for watcher in (*crews, desk):
        watcher.write = lambda _, name=watcher.user_id: order.append(name)  # type: ignore[method-assign]
    for crew in crews:
        crew.is_mobile = True
    conflation.offer(AUDIENCE, position("somebody", 1), [*crews, desk])
    await settled(conflation)
    assert order[0] == "desk"
    assert sorted(order[1:]) == ["crew0", "crew1", "crew2"]


async def test_who_has_left_is_shown_nothing_and_holds_up_nobody() -> None:
    conflation, gone, here = paced(), Watcher("gone"), Watcher("here")
    conflation.offer(AUDIENCE, position("crew", 1), [gone, here])
    conflation.leave(gone)
    await settled(conflation)
    assert (gone.seen, here.seen) == ([], ["crew1"])
    conflation.offer(AUDIENCE, position("crew", 2), [])
    conflation.forget(AUDIENCE)
    assert conflation._recent == {}


async def test_one_that_cannot_be_shown_it_keeps_it_from_nobody() -> None:
    conflation, broken, here = paced(), Watcher("broken"), Watcher("here")
    broken.audiences = None  # type: ignore[assignment]
    conflation.offer(AUDIENCE, position("crew", 1), [broken, here])
    await settled(conflation)
    assert here.seen == ["crew1"]


async def test_without_a_pace_everything_is_seen_in_the_order_it_came() -> None:
    conflation, watcher = Conflation(lambda: 0, only_newest=False), Watcher("watcher")
    other = ("persons", "watcher")
    watcher.audiences = [AUDIENCE, other]
    conflation.offer(other, position("crew", 1), [watcher])
    await settled(conflation)
    assert watcher.seen == ["crew1"]
    conflation.offer(other, position("crew", 2), [watcher])
    conflation.offer(AUDIENCE, position("crew", 3), [watcher])
    conflation.offer(other, position("crew", 4), [watcher])
    await settled(conflation)
    assert watcher.seen == ["crew1", "crew2", "crew3", "crew4"]


def test_of_too_much_the_newest_of_each_author_is_remembered() -> None:
    news = RecentEvents(only_newest=False)
    for turn in range(1, REMEMBERED + 2):
        news.put(turn, position(f"crew{turn % 3}", turn))
    assert [turn for turn, _ in news.since(0)] == [REMEMBERED - 1, REMEMBERED, REMEMBERED + 1]


async def test_who_leaves_while_others_are_shown_is_not_remembered() -> None:
    conflation = Conflation(lambda: 0, only_newest=False)
    first, gone = Watcher("first"), Watcher("gone")
    gone.is_mobile = True  # so that it would be shown second
    for number in range(FRAMES_AT_ONCE):  # a portion, after which the others have their turn
        conflation.offer(AUDIENCE, position(f"crew{number}", 1), [first, gone])
    first.write = lambda _: conflation.leave(gone)  # type: ignore[method-assign]
    await settled(conflation)
    assert gone.seen == []
    assert gone not in conflation._progress
