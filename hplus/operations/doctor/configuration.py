"""Checks of the settings: whether HPlus is configured for production."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

from hplus.operations import descriptors
from hplus.operations.disk import LEAST_FREE_BYTES, LOW_BYTES, MEBIBYTE, free_bytes
from hplus.operations.doctor.findings import Finding, cause, ok, warning, wrong
from hplus.operations.readiness import static_fault
from hplus.settings.environment import SECRET_KEY_LENGTH, is_strong_key

# Shorter, nobody can answer in time; longer, nobody notices in time.
SHORTEST_SECONDS, LONGEST_SECONDS = 10, 1800
FEW_CONNECTIONS = 2000  # of one server process


def examine_settings() -> Iterator[Finding]:
    yield about_mode()
    yield about_secret_key()
    yield about_hosts()
    yield about_static_files()
    yield about_emergency_times()
    yield about_attachments(Path(settings.MEDIA_ROOT).resolve(), Path(settings.STATIC_ROOT).resolve())
    yield about_descriptors()


def about_mode() -> Finding:
    if settings.HPLUS_DEMO:
        message = "Demo mode: anybody can connect as anyone. With real patients unset HPLUS_DEMO and DEBUG."
        return (warning if settings.DEBUG else wrong)("settings.mode", message)
    if settings.DEBUG:
        return warning("settings.mode", "DEBUG shows source code and settings on error pages. Unset DEBUG.")
    return ok("settings.mode", "Neither DEBUG nor demo mode.")


def about_secret_key() -> Finding:
    if all(map(is_strong_key, [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS])):
        return ok("settings.secret_key", "Long and varied.")
    message = (
        f"Weak: admin sessions can be forged. Set it and its fallbacks to {SECRET_KEY_LENGTH} characters."
    )
    return (warning if settings.DEBUG else wrong)("settings.secret_key", message)


def about_hosts() -> Finding:
    if "*" in settings.ALLOWED_HOSTS:
        message = "Every host name is accepted. Set ALLOWED_HOSTS to the names HPlus is reached at."
        return warning("settings.allowed_hosts", message)
    return ok("settings.allowed_hosts", f"{', '.join(settings.ALLOWED_HOSTS)}.")


def about_emergency_times() -> Finding:
    """Whether the times after which HPlus acts by itself are those of a hospital, not of a drill."""
    times = {"HPLUS_ESCALATION_SECONDS": settings.HPLUS_ESCALATION_SECONDS}
    times["HPLUS_STALL_SECONDS"] = settings.HPLUS_STALL_SECONDS
    for variable, seconds in times.items():
        for name, value in seconds.items():
            if not SHORTEST_SECONDS <= value <= LONGEST_SECONDS:
                message = f"{variable} has {name}={value}. Set {SHORTEST_SECONDS} to {LONGEST_SECONDS} s."
                return warning("settings.emergency_times", message)
    return ok("settings.emergency_times", f"Between {SHORTEST_SECONDS} and {LONGEST_SECONDS} s.")


def about_static_files() -> Finding:
    if fault := static_fault():
        return wrong("settings.static_root", fault)
    if settings.DEBUG:
        return ok("settings.static_root", "DEBUG serves scripts and styles from where they lie.")
    return ok("settings.static_root", f"Scripts and styles are collected in {settings.STATIC_ROOT}.")


def about_attachments(media: Path, static: Path) -> Finding:
    if media.is_relative_to(static):
        message = f"Attachments in {media} are served to anybody. Move MEDIA_ROOT out of {static}."
        return wrong("settings.media_root", message)
    directory = next(path for path in (media, *media.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(b"doctor")
    except OSError as failure:
        message = (
            f"Attachments can't be stored in {media}. Make it writable or set MEDIA_ROOT. {cause(failure)}"
        )
        return wrong("settings.media_root", message)
    if (free := free_bytes()) < LOW_BYTES:
        message = (
            f"Only {free // MEBIBYTE} MiB are free in {directory}; uploads end at "
            f"{LEAST_FREE_BYTES // MEBIBYTE}. Make room."
        )
        return warning("settings.media_root", message)
    return ok("settings.media_root", f"{media} can be written to.")


def about_descriptors() -> Finding:
    """How many connections a server process may have: each takes a file descriptor."""
    _, most = descriptors.limits()
    connections = descriptors.most_connections(most)
    message = f"{most} file descriptors allow {connections} connections of one server process."
    if connections < FEW_CONNECTIONS:
        return warning("settings.descriptors", f"{message} Raise the hard limit (ulimit -Hn, LimitNOFILE).")
    return ok("settings.descriptors", message)
