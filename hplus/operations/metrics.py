"""Prometheus metrics of this process; each server process has its own."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.crypto import constant_time_compare
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    Counter,
    Gauge,
    Histogram,
    Metric,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily

from hplus.operations.disk import free_bytes


class Tally:
    """A counter that only the event loop raises: an integer, where the library's takes a lock each time."""

    def __init__(self, name: str, documentation: str) -> None:
        self.count = 0
        self._family = (name, documentation)
        REGISTRY.register(self)

    def collect(self) -> Iterable[Metric]:
        yield CounterMetricFamily(*self._family, value=self.count)


class TallyByType:
    """Such a counter for each type."""

    def __init__(self, name: str, documentation: str) -> None:
        self.counts: defaultdict[str, int] = defaultdict(int)
        self._family = (name, documentation)
        REGISTRY.register(self)

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(*self._family, labels=["type"])
        for type_, count in self.counts.items():
            family.add_metric([type_], count)
        yield family


connections = Gauge("hplus_connections", "Open connections of this process")
connections_cut = Counter(
    "hplus_connections_cut_total", "Connections cut for what the client did or left undone", ["reason"]
)
awaited_requests = Gauge("hplus_awaited_requests", "Connections that have yet to send a whole HTTP request")
requests = TallyByType("hplus_frames_in_total", "Requests handled, by type")
frames_out = Tally("hplus_frames_out_total", "Frames written")
refusals = Counter("hplus_refusals_total", "Errors sent to clients, by code", ["code"])
free_disk = Gauge("hplus_attachments_free_bytes", "Bytes free where attachments are stored")
free_disk.set_function(free_bytes)
action_seconds = Histogram(
    "hplus_action_seconds",
    "Time to handle a request, in seconds, without waiting in the queue",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)


def metrics(request: HttpRequest) -> HttpResponse:
    """Respond in Prometheus' text format to who has the token, or without one to this machine.

    The proxy serves this address to no client.
    """
    if not _may_read(request):
        return HttpResponse(status=401, headers={"WWW-Authenticate": "Bearer"})
    return HttpResponse(generate_latest(), content_type=CONTENT_TYPE_LATEST)


def _may_read(request: HttpRequest) -> bool:
    token = settings.HPLUS_METRICS_TOKEN
    if token:
        return constant_time_compare(request.headers.get("Authorization", ""), f"Bearer {token}")
    return settings.DEBUG or is_loopback(request.META.get("REMOTE_ADDR", ""))


def is_loopback(address: str) -> bool:
    """Whether it is an address of this machine for itself."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


urlpatterns = [path("metrics", metrics)]
