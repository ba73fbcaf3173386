"""Positions at any rate: the newest comes, seldom enough, and keeps nothing else waiting."""

from __future__ import annotations

import asyncio

from hplus.realtime.glances import FRAMES_AT_ONCE, REMEMBERED, Glances, News
from hplus.realtime.parcels import Parcel

AUDIENCE = ("hospital", "")


class Watcher:
    """What Glances knows of a socket."""

    def __init__(self, user_id: str, *, has_room: bool = True) -> None:
        self.user_id = self.connection_id = user_id
        self.is_mobile, self.audiences, self.is_listening = False, [AUDIENCE], True
        self.outbox, self.has_room, self.seen = self, has_room, list[str]()

    def put(self, frame: str) -> None:
        self.seen.append(frame)


def position(author: str, number: int, topic: str = "") -> Parcel:
    return Parcel(word="locationUpdate", frame=f"{author}{number}", author=author, topic=topic, but=(author,))


def paced() -> Glances:
    return Glances(lambda: 0.05, only_newest=True)


async def settled(glances: Glances) -> None:
    assert glances._task is not None
    await glances._task


def test_of_each_author_only_the_newest_is_kept_in_the_order_they_came() -> None:
    newest = News(only_newest=True)
    for turn, parcel in enumerate([position("a", 1), position("b", 1), position("a", 2)], start=1):
        newest.put(turn, parcel)
    assert [(turn, parcel.frame) for turn, parcel in newest.since(0)] == [(2, "b1"), (3, "a2")]
    assert [turn for turn, _ in newest.since(2)] == [3]
    assert newest.since(3) == []


async def test_nobody_sees_the_own_position_or_what_came_before() -> None:
    glances, early, late = paced(), Watcher("early"), Watcher("late")
    glances.begin(early)
    glances.offer(AUDIENCE, position("late", 1), [early])
    await settled(glances)
    glances.begin(late)
    glances.offer(AUDIENCE, position("late", 2), [early, late])
    await settled(glances)
    assert (early.seen, late.seen) == (["late1", "late2"], [])


async def test_what_is_withdrawn_before_it_was_seen_is_never_seen() -> None:
    glances, watcher = paced(), Watcher("watcher")
    glances.offer(AUDIENCE, position("crew", 1, "matter"), [watcher])
    glances.offer(AUDIENCE, position("other", 1, "matter"), [watcher])
    glances.withdraw("crew", "matter")
    glances.withdraw("other", "another matter")
    await settled(glances)
    assert watcher.seen == ["other1"]


async def test_a_reader_without_room_sees_the_newest_once_it_has_room() -> None:
    glances, watcher = paced(), Watcher("slow", has_room=False)
    glances.offer(AUDIENCE, position("crew", 1), [watcher])
    await asyncio.sleep(0.06)
    assert watcher.seen == []
    glances.offer(AUDIENCE, position("crew", 2), [watcher])
    watcher.has_room = True
    await settled(glances)
    assert watcher.seen == ["crew2"]


async def test_who_only_watches_sees_before_who_moves() -> None:
    glances, order = paced(), list[str]()
    crews, desk = [Watcher(f"crew{n}") for n in range(3)], Watcher("desk")
    for watcher in (*crews, desk):
        watcher.put = lambda _, name=watcher.user_id: order.append(name)  # type: ignore[method-assign]
    for crew in crews:
        crew.is_mobile = True
    glances.offer(AUDIENCE, position("somebody", 1), [*crews, desk])
    await settled(glances)
    assert order[0] == "desk"
    assert sorted(order[1:]) == ["crew0", "crew1", "crew2"]


async def test_who_has_left_is_shown_nothing_and_holds_up_nobody() -> None:
    glances, gone, here = paced(), Watcher("gone"), Watcher("here")
    glances.offer(AUDIENCE, position("crew", 1), [gone, here])
    glances.leave(gone)
    await settled(glances)
    assert (gone.seen, here.seen) == ([], ["crew1"])
    glances.offer(AUDIENCE, position("crew", 2), [])
    glances.forget(AUDIENCE)
    assert glances._news == {}


async def test_one_that_cannot_be_shown_it_keeps_it_from_nobody() -> None:
    glances, broken, here = paced(), Watcher("broken"), Watcher("here")
    broken.audiences = None  # type: ignore[assignment]
    glances.offer(AUDIENCE, position("crew", 1), [broken, here])
    await settled(glances)
    assert here.seen == ["crew1"]


async def test_without_a_pace_everything_is_seen_in_the_order_it_came() -> None:
    glances, watcher = Glances(lambda: 0, only_newest=False), Watcher("watcher")
    other = ("persons", "watcher")
    watcher.audiences = [AUDIENCE, other]
    glances.offer(other, position("crew", 1), [watcher])
    await settled(glances)
    assert watcher.seen == ["crew1"]
    glances.offer(other, position("crew", 2), [watcher])
    glances.offer(AUDIENCE, position("crew", 3), [watcher])
    glances.offer(other, position("crew", 4), [watcher])
    await settled(glances)
    assert watcher.seen == ["crew1", "crew2", "crew3", "crew4"]


def test_of_too_much_the_newest_of_each_author_is_remembered() -> None:
    news = News(only_newest=False)
    for turn in range(1, REMEMBERED + 2):
        news.put(turn, position(f"crew{turn % 3}", turn))
    assert [turn for turn, _ in news.since(0)] == [REMEMBERED - 1, REMEMBERED, REMEMBERED + 1]


async def test_who_leaves_while_others_are_shown_is_not_remembered() -> None:
    glances = Glances(lambda: 0, only_newest=False)
    first, gone = Watcher("first"), Watcher("gone")
    gone.is_mobile = True  # so that it would be shown second
    for number in range(FRAMES_AT_ONCE):  # a portion, after which the others have their turn
        glances.offer(AUDIENCE, position(f"crew{number}", 1), [first, gone])
    first.put = lambda _: glances.leave(gone)  # type: ignore[method-assign]
    await settled(glances)
    assert gone.seen == []
    assert gone not in glances._glances
