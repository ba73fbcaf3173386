"""Settings of HPlus. What differs between installations is read from the environment, at the top."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from hplus.admin_site.theme import UNFOLD as UNFOLD
from hplus.settings.environment import (
    boolean,
    comma_separated,
    count,
    database,
    env,
    hosts,
    ice_urls,
    is_strong_key,
    megabytes_by_scope,
    prepare_directory_of,
    redis_address,
    seconds_by_priority,
    seconds_by_role,
    seconds_by_stall,
    tile_address,
    whole_number,
)

BASE_DIR = Path(__file__).resolve().parents[2]

# The environment

DEBUG = env("DEBUG", "0", boolean, "0 or 1")
PORT = env("PORT", "5000", whole_number(1, 65535), "a port number from 1 to 65535")
SECRET_KEY = os.environ.get("SECRET_KEY", "").strip()
# Keys that were, or will be, SECRET_KEY: what they sealed and signed is still taken.
SECRET_KEY_FALLBACKS = env(
    "SECRET_KEY_FALLBACKS", "", comma_separated, "keys, separated by commas", has_secret=True
)
ALLOWED_HOSTS = env("ALLOWED_HOSTS", "*" if DEBUG else "", hosts, "host names, separated by commas")
DATABASE = env(
    "DATABASE_URL",
    f"sqlite:///{BASE_DIR / 'var' / 'hplus.sqlite3'}",
    database,
    "postgres://user:password@host:port/name or sqlite:///path",
    has_secret=True,
)
REDIS_URL = env("REDIS_URL", "", redis_address, "redis://host:port/number", has_secret=True)

# Without TLS pages are redirected and sockets refused. Only FORWARDED_ALLOW_IPS may say that there was TLS.
HPLUS_REQUIRE_TLS = env("HPLUS_REQUIRE_TLS", "0" if DEBUG else "1", boolean, "0 or 1")
HPLUS_DEMO = env("HPLUS_DEMO", "0", boolean, "0 or 1")
HPLUS_MESSAGES_PER_MINUTE = env("HPLUS_MESSAGES_PER_MINUTE", "600", count, "a whole number, 0 for no limit")
HPLUS_MAX_SOCKETS_PER_USER = env("HPLUS_MAX_SOCKETS_PER_USER", "20", count, "a whole number, 0 for no limit")
HPLUS_MAX_SOCKETS_PER_IP = env("HPLUS_MAX_SOCKETS_PER_IP", "0", count, "a whole number, 0 for no limit")
HPLUS_ESCALATION_SECONDS = env(
    "HPLUS_ESCALATION_SECONDS",
    "critical=30,high=60,medium=120,low=300",
    seconds_by_priority,
    "like critical=30,high=60,medium=120,low=300, each from 1 second to a day",
)
# Until an accepted emergency counts as stalled.
HPLUS_STALL_SECONDS = env(
    "HPLUS_STALL_SECONDS",
    "acknowledge=60,turnout=120,unreachable=60",
    seconds_by_stall,
    "like acknowledge=60,turnout=120,unreachable=60, each from 1 second to a day",
)
# After so many days texts, names, positions and files are replaced; 0 keeps them.
HPLUS_RETENTION_DAYS = env(
    "HPLUS_RETENTION_DAYS", "0", whole_number(0, 36_500), "a whole number of days up to 36500, 0 to keep all"
)
# A session ends so long after it was renewed last, and so long after it began, whatever is done with it.
_BY_ROLE = "hours by role like patient=720,staff=168,admin=12, with patient and staff, each up to ten years"
SESSION_IDLE_SECONDS = env(
    "HPLUS_SESSION_IDLE_HOURS", "patient=720,staff=168,admin=72", seconds_by_role, _BY_ROLE
)
SESSION_SECONDS = env("HPLUS_SESSION_HOURS", "patient=8760,staff=2160,admin=720", seconds_by_role, _BY_ROLE)
# After so many minutes without a request the admin site asks for the password again.
HPLUS_ADMIN_IDLE_MINUTES = env(
    "HPLUS_ADMIN_IDLE_MINUTES", "480", whole_number(5, 20_160), "a whole number of minutes from 5 to 20160"
)
HPLUS_RING_SECONDS = env(
    "HPLUS_RING_SECONDS", "45", whole_number(1, 3600), "a whole number of seconds up to 3600"
)
HPLUS_UPLOAD_QUOTA_MB = env(
    "HPLUS_UPLOAD_QUOTA_MB",
    "user=200,room=2000,hospital=100000",
    megabytes_by_scope,
    "like user=200,room=2000,hospital=100000 in MiB, 0 for no limit",
)
# What Prometheus shows as a bearer token; without one only this machine may read the metrics.
HPLUS_METRICS_TOKEN = os.environ.get("HPLUS_METRICS_TOKEN", "").strip()
TURN_SECRET = os.environ.get("TURN_SECRET", "")
TURN_URLS = env("TURN_URLS", "", ice_urls, "stun: and turn: addresses, separated by commas")
MAP_TILE_URL = env("MAP_TILE_URL", "", tile_address, "an address like https://host/{z}/{x}/{y}.png")
HPLUS_PUSH_BACKEND = os.environ.get("HPLUS_PUSH_BACKEND") or "hplus.push.senders.ConsolePush"
# Periodic jobs (escalation, presence, ...) run inside each server, unless a separate `worker` runs them.
HPLUS_WORKER_INSIDE = env("HPLUS_WORKER_INSIDE", "1", boolean, "0 or 1")
# The hot statements are prepared on a connection of their own; 0 for a pgbouncer that can't (before 1.21).
HPLUS_PREPARED_STATEMENTS = env("HPLUS_PREPARED_STATEMENTS", "1", boolean, "0 or 1")

if any(url.startswith("turn") for url in TURN_URLS) and not TURN_SECRET:
    raise ImproperlyConfigured("TURN_SECRET is missing: TURN_URLS names a TURN server, which wants it.")
if HPLUS_DEMO and not DEBUG:
    raise ImproperlyConfigured(
        "HPLUS_DEMO lets anybody connect as anyone, so it needs DEBUG=1; never set it in production."
    )
if not SECRET_KEY:
    if not DEBUG:
        raise ImproperlyConfigured("SECRET_KEY is missing: set it to 50 or more random characters.")
    SECRET_KEY = "insecure-key-for-development-only"
if not DEBUG and not is_strong_key(SECRET_KEY):
    raise ImproperlyConfigured("SECRET_KEY is weak: set it to 50 or more random characters.")
if not DEBUG and not all(is_strong_key(key) for key in SECRET_KEY_FALLBACKS):
    raise ImproperlyConfigured(
        "SECRET_KEY_FALLBACKS has a weak key: each needs 50 or more random characters."
    )
if not DEBUG and not ALLOWED_HOSTS:
    raise ImproperlyConfigured("ALLOWED_HOSTS is missing: name the hosts HPlus is reached at.")

# Behaviour; the figures are part of the contract or explained in DECISIONS.md

HEARTBEAT_INTERVAL_SECONDS = 30
LOGIN_SECONDS = 10  # for a first-message login
LOGINS_PER_ADDRESS = 200  # connections that have yet to send it
LOGINS = 1000  # the same for a whole process
REQUEST_SECONDS = 10  # for the head of an HTTP request
BODY_SECONDS, BODY_BYTES = 30, 64 * 1024  # in so many seconds so much of a body comes, or the rest of it
AWAITED_REQUESTS_PER_ADDRESS = 200  # connections that have yet to send a whole request
AWAITED_REQUESTS = 1000  # the same for a whole process
REFUSED_SOCKET_SECONDS = 1.0
UNDELIVERED_AFTER_SECONDS = 0.5
PRESENCE_GRACE_SECONDS = 10
TICKET_SECONDS = 60
ACCESS_TOKEN_SECONDS = 12 * 3600
REFRESH_AGAIN_SECONDS = 60  # how long the same refresh token gets the same answer, which may have been lost
SESSION_RETENTION_DAYS = 90  # how long an ended session stays visible in the admin site
MAILBOX_RETENTION_DAYS = 14
RECONCILE_SECONDS = 2.0  # how often a server compares its connections with the database
ACTION_TIMEOUT_SECONDS = 4.0  # so that a client gets its error within 5 s
ACTION_THREADS = 8
HOT_CONNECTIONS = 2  # database connections of the hot statements
ADMISSION_THREADS = 4  # for clients that connect and disconnect
URGENT_THREADS = 3  # for calls for help and their answers, which nothing else may use
EXPORT_THREADS = 2  # for the portions of exports
OTHER_THREADS = 4  # reconciliation, health, the main thread of a command
JOB_THREADS = 12  # of the periodic jobs that must be on time, and one for all that may wait
# In milliseconds, by the kind of work (hplus.postgresql.limits). A command has none, and so has migrate.
DATABASE_LIMITS = {
    "request": {
        "statement_timeout": 4_000,
        "lock_timeout": 3_000,
        "idle_in_transaction_session_timeout": 5_000,
    },
    # Ends what hangs. What may take longer is done in portions.
    "job": {
        "statement_timeout": 60_000,
        "lock_timeout": 10_000,
        "idle_in_transaction_session_timeout": 60_000,
    },
}
# HTTP requests at work at once, by lane (hplus.api.lanes), each with one database connection.
HTTP_LANES = {"urgent": 3, "signIn": 2, "api": 5, "admin": 3, "page": 1}
OUTBOUND_FRAMES = 1000
OUTBOUND_BYTES = 4 * 1024 * 1024
# Of requests that wait for their turn; then no more is read of this user.
INBOUND_BYTES_PER_USER = 1024 * 1024
INBOUND_BYTES = 64 * 1024 * 1024  # the same for a whole process
# Of what waits for the channel layer; then the oldest wake-ups are dropped.
PUBLISHER_BYTES = 64 * 1024 * 1024
FLIGHT_BYTES = 1024 * 1024  # of the commands that share one hot statement; one alone may be longer
# Events of a mailbox that are read at once, and at most PAGE_BYTES; the next when they are written.
PAGE_EVENTS = 100
PAGE_BYTES = 1024 * 1024
EMERGENCY_OF_CALL = "emergency.audience.is_open_emergency_of"  # where calls ask what they know nothing of
AGREEMENT = "chat.first_contact.agree_between"  # what a patient's call agrees to
UNANSWERED_CALLS = 3  # of one caller to one person within UNANSWERED_CALLS_SECONDS, then the next has to wait
UNANSWERED_CALLS_SECONDS = 600
CALL_DROPPED_SECONDS = 15  # without a connection, then a participant has left the call
TURN_CREDENTIAL_SECONDS = 4 * 3600  # longer than a consultation
SLOW_READER_SECONDS = 10  # how long a long reply waits for a slow reader
EDIT_MINUTES = 15
TYPING_SECONDS = 10
RECEIPT_WRITE_SECONDS = 0.1  # between two transactions that mark messages as delivered
NOTIFICATION_RETENTION_DAYS = 90  # after it was read
PUSH_TRIES = 10  # with the pauses below, given up after a quarter of an hour
PUSH_RETRY_SECONDS = 2.0  # the first pause; each is twice the one before
PUSH_TTL_SECONDS = 24 * 3600  # how long the push service keeps a push for a phone that is off
PUSH_RETENTION_DAYS = 7  # of pushes that were sent or given up
ATTACHMENT_BYTES = 10 * 1024 * 1024
FIRST_CONTACTS_PER_HOUR = 60  # rooms that one member of the staff opens with patients who have not agreed
ACCOUNT_NOTICES = "hplus.notifications.actions.notify"  # how people hear of changes to their own account
MOVE = "hplus.operations.moving.move"  # how an account gets another role or hospital
MAY_MOVE = "hplus.operations.moving.must_be_free"  # asked before that
WHEREABOUTS = "location.actions.fresh_positions"  # where other domains look up a user's own position
LOCATION_STALE_SECONDS = 120
LOCATION_WRITE_SECONDS = 0.1  # how long positions outside an emergency wait for others to batch with
LOCATION_INTERVAL_SECONDS = 0.5  # between two positions of one person on one connection
LOCATION_FLUSH_SECONDS = 0.1  # between two writes of positions to one connection
PRESENCE_FLUSH_SECONDS = 0.25  # between two writes of presence events to one connection
LOCATION_REQUEST_SECONDS = 60
LOCATION_TRACK_HOURS = 24  # how long tracks outside an emergency are kept
CREW_SPEED_MPS = 9.0  # see location.geo for the sources
CREW_ROAD_DETOUR = 1.4

# Django

INSTALLED_APPS = [
    "daphne",
    "unfold",  # before the admin, whose templates and site it replaces
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "channels",
    "hplus",
    "hplus.audit",
    "hplus.accounts",
    "hplus.push",
    "hplus.realtime",
    "hplus.notifications",
    "chat",
    "location",
    "calls",
    "emergency",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "hplus.admin_site.csp.SecurityHeaders",
    "hplus.api.lanes.Lanes",  # before all that asks the database
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "hplus.accounts.session_ends.AdminSessionEnds",
    "hplus.accounts.login_throttle.KnownBrowsers",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "hplus.admin_site.printable.PrintablePages",
]
ROOT_URLCONF = "hplus.urls"
ASGI_APPLICATION = "hplus.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# An action borrows a database connection from the pool; every wait has a timeout.
if DATABASE["ENGINE"].endswith("postgresql"):
    # Whoever may ask for a connection has one: no thread and no lane waits for another's.
    _threads = ACTION_THREADS + ADMISSION_THREADS + URGENT_THREADS + EXPORT_THREADS + OTHER_THREADS
    _connections = _threads + sum(HTTP_LANES.values())
    DATABASE |= {
        "ENGINE": "hplus.postgresql",
        "CONN_MAX_AGE": 0,
        "OPTIONS": {
            **DATABASE.get("OPTIONS", {}),
            "pool": {
                "most": {"request": _connections, "command": _connections, "job": JOB_THREADS},
                "wait_seconds": 3,
            },
            "connect_timeout": 3,
        },
        # A named cursor outlives no transaction behind a pgbouncer.
        "DISABLE_SERVER_SIDE_CURSORS": not HPLUS_PREPARED_STATEMENTS,
    }
else:
    prepare_directory_of(Path(str(DATABASE["NAME"])))
    DATABASE |= {
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            "timeout": 4,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        },
    }
DATABASES = {"default": DATABASE}

if REDIS_URL:
    from redis.asyncio.retry import Retry
    from redis.backoff import ExponentialBackoff

    CHANNEL_LAYERS: dict[str, Any] = {
        "default": {
            "BACKEND": "hplus.realtime.channel_layer.ChannelLayer",
            "CONFIG": {
                "prefix": "",  # ChannelLayer puts the name of the installation before each channel
                "hosts": [
                    {
                        "address": REDIS_URL,
                        "socket_timeout": 15,
                        "socket_connect_timeout": 3,
                        "health_check_interval": 15,
                        "retry": Retry(ExponentialBackoff(cap=1, base=0.05), 10),
                    }
                ],
            },
        }
    }
else:
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels.layers.InMemoryChannelLayer",
            "CONFIG": {"capacity": 100_000, "group_expiry": 10 * 365 * 86400},
        }
    }

AUTH_USER_MODEL = "accounts.User"
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator",
        "OPTIONS": {"user_attributes": ("user_id", "name", "department", "specialization")},
    },
    {"NAME": "hplus.accounts.passwords.NotTheDemosValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "/admin/login/"
LOGIN_REDIRECT_URL = "/admin/"
AUTHENTICATION_BACKENDS = [
    "hplus.accounts.passwords.PasswordBackend",
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
FORMAT_MODULE_PATH = "hplus.admin_site.formats"

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "var" / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
# Attachments are stored outside every directory that is served directly.
MEDIA_ROOT = Path(os.environ.get("MEDIA_ROOT") or BASE_DIR / "var" / "attachments")
FILE_UPLOAD_PERMISSIONS = 0o600
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["hplus.accounts.authentication.BearerAuthentication"],
    "DEFAULT_THROTTLE_CLASSES": ["hplus.api.throttling.ApiThrottle"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": [
        "hplus.api.requests.StrictJsonParser",
        "hplus.api.requests.FormParser",
    ],
    "EXCEPTION_HANDLER": "hplus.api.answers.answer_exception",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "HPlus",
    "DESCRIPTION": "The same rules, actions and shapes as on the socket; see /protocol/.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
}

SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_AGE = HPLUS_ADMIN_IDLE_MINUTES * 60  # since it was used last
if not DEBUG:
    SECURE_SSL_REDIRECT = HPLUS_REQUIRE_TLS  # by the scheme that the server knows, not by a header of anybody
    SECURE_REDIRECT_EXEMPT = [r"^health/", r"^metrics$"]
    SECURE_HSTS_SECONDS = 365 * 86400
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True

# Neither message text, names nor tokens belong in a log: the code logs ids, types and durations.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "hplus.operations.logs.OneLine",
            "format": "{asctime} {levelname} {name} {message}",
            "style": "{",
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "stream": sys.stderr}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        "uvicorn.error": {"level": "WARNING"},
        "uvicorn.access": {"level": "WARNING"},
        "daphne": {"level": "WARNING"},
        "django.channels.server": {"level": "WARNING"},
        "django.request": {"level": "ERROR"},
    },
}
