"""The settings of HPlus on storage of this run's own.

Settings are read before anything else of pytest, so PostgreSQL and Redis start here. With
HPLUS_TEST_STORAGE=sqlite it is a SQLite file and the in-memory layer instead.
"""

import os

from tests.services import Postgres, Redis, Scratch, ServiceUnavailable

SERVICES_MISSING = ""
postgres: Postgres | None = None
redis: Redis | None = None

KEY = "for-tests-only-Zq8Lw3Tn7YbGh2sPfJm9cUa4eRi6oQy1tXk5vKd0"  # of no installation

# A process that a test starts inherits this mark and the addresses, and uses the same storage.
# Tests that run side by side (pytest-xdist) have a storage each: Redis would carry words across.
RUN = os.environ.get("PYTEST_XDIST_WORKER", "alone")
if os.environ.get("HPLUS_TEST_RUN") != RUN:
    os.environ["HPLUS_TEST_RUN"] = RUN
    os.environ.update(DEBUG="1", HPLUS_DEMO="1", SECRET_KEY=KEY)
    storage = Scratch("storage").path
    os.environ.update(
        DATABASE_URL=f"sqlite:///{storage / 'hplus.sqlite3'}",
        REDIS_URL="",
        MEDIA_ROOT=str(storage / "attachments"),
    )
    if os.environ.get("HPLUS_TEST_STORAGE") != "sqlite":
        try:
            postgres, redis = Postgres(durable=False), Redis()
        except ServiceUnavailable as unavailable:
            if os.environ.get("CI"):
                raise
            SERVICES_MISSING = str(unavailable)  # conftest skips, with this as the reason
        else:
            os.environ.update(DATABASE_URL=postgres.start().url, REDIS_URL=redis.start().url)

from hplus.settings import *  # noqa: E402, F403
from hplus.settings import DATABASES  # noqa: E402

if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # In a file, because the servers and threads of a test share it; in memory each would see its own.
    name = DATABASES["default"]["NAME"]
    DATABASES["default"]["TEST"] = {"NAME": f"{name}.test"}
else:
    # A test may write a hundred thousand rows; what is bounded in a server is tested on a server.
    DATABASE_LIMITS = {}

# The slow hashers are Django's to test; a story logs in often.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# A browser of a test gets its scripts and styles from where they lie.
WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = True
