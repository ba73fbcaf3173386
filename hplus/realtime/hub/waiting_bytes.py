"""How many bytes of requests wait for their turn in this process, and who may send more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from django.conf import settings

OnRoom = Callable[[], None]


class WaitingBytes:
    """Counts what waits, by user over all connections.

    The nearer the process is to its bound, the less one user may have in it: at most a quarter of what is
    free (Choudhury and Hahne's dynamic threshold), so that the others always have room.
    """

    def __init__(self) -> None:
        self.total = 0
        self._by_user: Counter[str] = Counter()
        self._without_room: dict[str, dict[OnRoom, None]] = {}  # who waits for room, by user

    def add(self, user_id: str, count: int) -> None:
        self.total += count
        self._by_user[user_id] += count

    def remove(self, user_id: str, count: int) -> None:
        """Note that so many bytes have had their turn, and tell those who waited for that."""
        self.total -= count
        self._by_user[user_id] -= count
        if not self._by_user[user_id]:
            del self._by_user[user_id]
        if self._without_room:
            self._tell(user_id)

    def has_room(self, user_id: str, share: float = 1) -> bool:
        """Whether this user may send more."""
        free = settings.INBOUND_BYTES - self.total
        return self._by_user[user_id] <= share * min(settings.INBOUND_BYTES_PER_USER, free // 4)

    def wait_for_room(self, user_id: str, on_room: OnRoom) -> None:
        """Call back once, when this user may send more."""
        self._without_room.setdefault(user_id, {})[on_room] = None

    def _tell(self, user_id: str) -> None:
        """Where the process has emptied, everybody; else the connections of this user."""
        all_may = self.total <= settings.INBOUND_BYTES // 2
        for waiting in list(self._without_room) if all_may else [user_id]:
            if waiting in self._without_room and self.has_room(waiting, share=1 / 2):
                for on_room in self._without_room.pop(waiting):
                    on_room()
