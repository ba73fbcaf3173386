"""What has been written to a connection, remembered in a few numbers."""

from __future__ import annotations

from hplus.realtime.connection.outbound import REMEMBERED_EVENTS, WrittenEvents


def started(after: int) -> WrittenEvents:
    written = WrittenEvents()
    written.start_after(after)
    return written


def test_a_live_event_is_known_when_it_comes_again_out_of_order() -> None:
    written = started(after=10)
    assert not written.add_live(11)
    assert written.add_other(11)
    assert not written.add_other(12)


def test_an_event_from_before_the_connection_is_written_out_of_order_once() -> None:
    written = started(after=10)
    assert not written.add_other(4)
    assert written.add_other(4)


def test_an_event_buffered_while_connecting_is_known_when_it_comes_again_out_of_order() -> None:
    written = started(after=11)
    assert not written.add_live(10)
    assert not written.add_live(11)
    assert written.add_other(10)
    assert written.add_other(11)


def test_an_event_written_out_of_order_is_not_written_again_live() -> None:
    written = started(after=10)
    assert not written.add_other(11)
    assert written.add_live(11)
    assert written.add_other(11)


def test_a_live_event_that_was_written_as_something_else_may_come_as_itself() -> None:
    written = started(after=10)
    written.skip_live(11)
    assert not written.add_live(12)
    assert not written.add_other(11)
    assert written.add_other(11)


def test_an_event_without_a_place_is_written_once() -> None:
    written = started(after=10)
    assert not written.add_unplaced("an id")
    assert written.add_unplaced("an id")


def test_too_much_to_remember_is_forgotten_so_that_nothing_is_taken_for_written() -> None:
    written = started(after=0)
    for seq in range(1, REMEMBERED_EVENTS + 2):
        written.skip_live(seq)
    assert not written.add_other(1)
    others = started(after=REMEMBERED_EVENTS * 2)
    for seq in range(REMEMBERED_EVENTS + 1):
        assert not others.add_other(seq)
    assert not others.add_other(1)
