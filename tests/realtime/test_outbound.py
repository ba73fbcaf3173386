"""What has been written to a connection, remembered in a few numbers."""

from __future__ import annotations

from hplus.realtime.connection.outbound import REMEMBERED_EVENTS, WrittenEvents


def started(after: int) -> WrittenEvents:
    written = WrittenEvents()
    written.start_after(after)
    return written


def test_live_event_repeated_out_of_order_is_dropped() -> None:
    written = started(after=10)
    assert not written.add_live(11)
    assert written.add_other(11)
    assert not written.add_other(12)


def test_event_from_before_the_connection_is_written_once() -> None:
    written = started(after=10)
    assert not written.add_other(4)
    assert written.add_other(4)


def test_buffered_event_repeated_out_of_order_is_dropped() -> None:
    written = started(after=11)
    assert not written.add_live(10)
    assert not written.add_live(11)
    assert written.add_other(10)
    assert written.add_other(11)


def test_event_written_out_of_order_is_not_repeated_live() -> None:
    written = started(after=10)
    assert not written.add_other(11)
    assert written.add_live(11)
    assert written.add_other(11)


def test_live_event_written_in_another_form_is_not_dropped_in_its_own() -> None:
    written = started(after=10)
    written.skip_live(11)
    assert not written.add_live(12)
    assert not written.add_other(11)
    assert written.add_other(11)


def test_what_the_client_has_from_an_earlier_connection_is_as_good_as_written() -> None:
    written = WrittenEvents()
    written.start_after(8, had_up_to=10)
    assert written.add_live(9)
    assert written.add_live(10)
    assert not written.add_live(11)


def test_event_without_seq_is_written_once() -> None:
    written = started(after=10)
    assert not written.add_unplaced("an id")
    assert written.add_unplaced("an id")


def test_overfull_memory_is_cleared_and_drops_no_event() -> None:
    written = started(after=0)
    for seq in range(1, REMEMBERED_EVENTS + 2):
        written.skip_live(seq)
    assert not written.add_other(1)
    others = started(after=REMEMBERED_EVENTS * 2)
    for seq in range(REMEMBERED_EVENTS + 1):
        assert not others.add_other(seq)
    assert not others.add_other(1)
