"""Conflation: at any rate of events the newest comes, seldom enough, and keeps nothing else waiting."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection, Sequence

import pytest

from hplus.realtime.hub.conflation import FRAMES_AT_ONCE, REMEMBERED, Conflation, RecentEvents
from hplus.realtime.hub.listener import Audience
from hplus.realtime.publishing.envelopes import Envelope
from tests.virtual_time import in_virtual_time
from tests.waiting import PATIENCE_SECONDS, until

AUDIENCE = ("hospital", "")
OTHER = ("persons", "watcher")


class Watcher:
    """A Listener, as far as conflation needs one."""

    def __init__(
        self, user_id: str, *, has_room: bool = True, audiences: Sequence[Audience] = (AUDIENCE,)
    ) -> None:
        self.user_id = self.connection_id = user_id
        self.audiences, self.is_listening = audiences, True
        self.has_room, self.seen, self.writes = has_room, list[str](), list[Sequence[str]]()

    def write_many(self, frames: Sequence[str]) -> None:
        self.writes.append(frames)
        self.seen += frames


def position(author: str, number: int, topic: str = "") -> Envelope:
    return Envelope(
        event_type="locationUpdate", frame=f"{author}{number}", author=author, topic=topic, but=(author,)
    )


def conflation_of(
    *watchers: Watcher, interval_seconds: float = 0.05, pace_seconds: float | None = 0
) -> Conflation:
    """The conflation of a process with these connections; they have just begun."""

    def listeners_of(audience: Audience) -> Collection[Watcher]:
        return [watcher for watcher in watchers if watcher.audiences and audience in watcher.audiences]

    pace = None if pace_seconds is None else lambda: pace_seconds
    conflation = Conflation(lambda: interval_seconds, listeners_of, pace)
    for watcher in watchers:
        conflation.begin(watcher)
    return conflation


async def settled(conflation: Conflation) -> None:
    assert conflation._task is not None
    await asyncio.wait_for(conflation._task, PATIENCE_SECONDS)


def test_only_the_newest_of_each_sender_is_kept_in_order_of_arrival() -> None:
    newest = RecentEvents(only_newest=True)
    for turn, envelope in enumerate([position("a", 1), position("b", 1), position("a", 2)], start=1):
        newest.put(turn, envelope)
    assert [(turn, envelope.frame) for turn, envelope in newest.since(0)] == [(2, "b1"), (3, "a2")]
    assert [turn for turn, _ in newest.since(2)] == [3]
    assert newest.since(3) == []


@in_virtual_time
async def test_own_position_and_older_ones_are_not_delivered() -> None:
    early, late = Watcher("early"), Watcher("late")
    conflation = conflation_of(early)
    conflation.offer(AUDIENCE, position("late", 1))
    await settled(conflation)
    watchers = [early, late]
    conflation._listeners_of = lambda _: watchers
    conflation.begin(late)
    conflation.offer(AUDIENCE, position("late", 2))
    await settled(conflation)
    assert (early.seen, late.seen) == (["late1", "late2"], [])


@in_virtual_time
async def test_listener_that_joins_later_gets_nothing_from_before() -> None:
    """Of the new group, that is; what waited for it elsewhere still comes."""
    watcher, other = Watcher("watcher", audiences=[OTHER], has_room=False), Watcher("other")
    conflation = conflation_of(watcher, other)
    conflation.offer(AUDIENCE, position("crew", 1))
    conflation.offer(OTHER, position("patient", 1))
    await until(lambda: other.seen == ["crew1"])
    watcher.audiences = [AUDIENCE, OTHER]
    conflation.join(watcher, AUDIENCE)
    watcher.has_room = True
    await settled(conflation)
    assert watcher.seen == ["patient1"]
    conflation.offer(AUDIENCE, position("crew", 2))
    conflation.offer(AUDIENCE, position("crew", 3))
    await settled(conflation)
    assert watcher.seen == ["patient1", "crew3"]
    assert conflation._joined == {}


@in_virtual_time
async def test_sender_is_shown_at_the_interval_with_the_newest_event() -> None:
    conflation = conflation_of(watcher := Watcher("watcher"), pace_seconds=0.3)
    now, shown_at = asyncio.get_running_loop().time, dict[str, float]()
    watcher.write_many = lambda frames: shown_at.update(dict.fromkeys(frames, now()))
    for number in range(10):
        conflation.offer(AUDIENCE, position("crew", number))
        await asyncio.sleep(0.05)
    conflation.offer(AUDIENCE, position("another crew", 1))
    await settled(conflation)
    crew = {frame: at for frame, at in shown_at.items() if frame.startswith("crew")}
    assert (len(crew), list(crew)[-1]) == (3, "crew9")
    assert list(crew) == sorted(crew)
    assert all(later - earlier == pytest.approx(0.3) for earlier, later in itertools.pairwise(crew.values()))
    assert shown_at["another crew1"] < shown_at["crew9"]  # one does not wait for others


@in_virtual_time
async def test_waiting_event_is_not_shown_once_revoked() -> None:
    conflation = conflation_of(watcher := Watcher("watcher"), pace_seconds=0.3)
    conflation.offer(AUDIENCE, position("crew", 1, "matter"))
    await until(lambda: watcher.seen == ["crew1"])
    conflation.offer(AUDIENCE, position("crew", 2, "matter"))
    conflation.revoke("crew", "matter")
    await settled(conflation)
    assert watcher.seen == ["crew1"]


@in_virtual_time
async def test_unwritten_event_is_never_written_once_revoked() -> None:
    conflation = conflation_of(watcher := Watcher("watcher"))
    conflation.offer(AUDIENCE, position("crew", 1, "matter"))
    conflation.offer(AUDIENCE, position("other", 1, "matter"))
    conflation.revoke("crew", "matter")
    conflation.revoke("other", "another matter")
    await settled(conflation)
    assert watcher.seen == ["other1"]


@in_virtual_time
async def test_slow_reader_gets_the_newest_once_it_has_room() -> None:
    slow, quick = Watcher("slow", has_room=False), Watcher("quick")
    conflation = conflation_of(slow, quick)
    conflation.offer(AUDIENCE, position("crew", 1))
    await until(lambda: quick.seen == ["crew1"])
    conflation.offer(AUDIENCE, position("crew", 2))
    await until(lambda: quick.seen == ["crew1", "crew2"])
    assert slow.seen == []
    slow.has_room = True
    await settled(conflation)
    assert slow.seen == ["crew2"]


@in_virtual_time
async def test_writes_to_one_client_keep_the_interval() -> None:
    conflation = conflation_of(watcher := Watcher("watcher"), interval_seconds=0.1)
    now, at = asyncio.get_running_loop().time, list[float]()
    watcher.write_many = lambda _: at.append(now())
    for number in range(10):
        conflation.offer(AUDIENCE, position("crew", number))
        await asyncio.sleep(0.03)
    await settled(conflation)
    assert len(at) == 4
    assert all(later - earlier == pytest.approx(0.1) for earlier, later in itertools.pairwise(at))


@in_virtual_time
async def test_listeners_that_have_seen_the_same_share_frames() -> None:
    """Made once, not once for each; but the author's own are left out."""
    watchers = [Watcher(f"watcher{n}") for n in range(3)]
    conflation = conflation_of(*watchers, author := Watcher("crew7"))
    for round_ in (1, 2):
        for number in range(10):
            conflation.offer(AUDIENCE, position(f"crew{number}", round_))
        await settled(conflation)
        assert len({id(watcher.writes[-1]) for watcher in watchers}) == 1
    assert author.seen == [frame for frame in watchers[0].seen if not frame.startswith("crew7")]
    assert len(watchers[0].seen) == 20


@in_virtual_time
async def test_batch_larger_than_one_write_comes_in_several() -> None:
    watcher = Watcher("watcher")
    conflation = conflation_of(watcher)
    for number in range(FRAMES_AT_ONCE + 1):
        conflation.offer(AUDIENCE, position(f"crew{number}", 1))
    watcher.write_many = lambda frames: (
        watcher.writes.append(frames),
        setattr(watcher, "has_room", False),
    )
    task = conflation._task
    await until(lambda: bool(watcher.writes))
    watcher.has_room = True
    assert task is not None
    await asyncio.wait_for(task, PATIENCE_SECONDS)
    assert [len(frames) for frames in watcher.writes] == [FRAMES_AT_ONCE, 1]


@in_virtual_time
async def test_listener_that_left_gets_nothing_and_delays_nobody() -> None:
    gone, here = Watcher("gone"), Watcher("here")
    conflation = conflation_of(gone, here)
    conflation.offer(AUDIENCE, position("crew", 1))
    conflation._due.add(gone)
    gone.audiences = []
    conflation.leave(gone)
    await settled(conflation)
    assert (gone.seen, here.seen) == ([], ["crew1"])
    conflation.offer(OTHER, position("crew", 2))  # nobody listens
    assert OTHER not in conflation._recent
    conflation.forget(AUDIENCE)
    assert conflation._recent == {}


@in_virtual_time
async def test_failing_listener_does_not_keep_events_from_others() -> None:
    broken, here = Watcher("broken"), Watcher("here")
    conflation = conflation_of(broken, here)
    broken.write_many = None
    conflation.offer(AUDIENCE, position("crew", 1))
    await settled(conflation)
    assert here.seen == ["crew1"]


@in_virtual_time
async def test_live_events_are_delivered_in_order_of_arrival() -> None:
    watcher = Watcher("watcher", audiences=[AUDIENCE, OTHER])
    conflation = conflation_of(watcher, pace_seconds=None)
    conflation.offer(OTHER, position("crew", 1))
    await settled(conflation)
    assert watcher.seen == ["crew1"]
    conflation.offer(OTHER, position("crew", 2))
    conflation.offer(AUDIENCE, position("crew", 3))
    conflation.offer(OTHER, position("crew", 4))
    await settled(conflation)
    assert watcher.seen == ["crew1", "crew2", "crew3", "crew4"]


def test_overflow_keeps_the_newest_of_each_sender() -> None:
    news = RecentEvents(only_newest=False)
    for turn in range(1, REMEMBERED + 2):
        news.put(turn, position(f"crew{turn % 3}", turn))
    assert [turn for turn, _ in news.since(0)] == [REMEMBERED - 1, REMEMBERED, REMEMBERED + 1]


@in_virtual_time
async def test_listener_that_leaves_during_delivery_is_forgotten() -> None:
    watchers = [Watcher(f"watcher{n}") for n in range(2)]
    conflation = conflation_of(*watchers)

    def leave_with(other: Watcher, frames: Sequence[str]) -> None:
        conflation.leave(other)

    for watcher, other in (watchers, watchers[::-1]):
        watcher.write_many = lambda frames, other=other: leave_with(other, frames)
    conflation.offer(AUDIENCE, position("crew", 1))
    await settled(conflation)
    assert len(conflation._served) == 1
