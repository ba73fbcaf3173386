"""What keeps a process from serving at all: a database of another version, files that were not collected."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles.storage import ManifestFilesMixin
from django.core.files.storage import storages
from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, Error, connections
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader

logger = logging.getLogger(__name__)
_is_schema_right = False  # once it was, a newer version may migrate while this one still serves


def schema_fault() -> str | None:
    """Say what to do where the migrations are not those of this version. Raises django.db.Error."""
    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        return f"{len(missing)} migrations are not applied, first {missing[0][0]}. Run manage.py migrate."
    if unknown := _unknown_migrations(executor.loader):
        return (
            f"The database is of a newer version: {len(unknown)} migrations are unknown, first {unknown[0]}. "
            "Start that version, or go back with its manage.py migrate first."
        )
    return None


def _unknown_migrations(loader: MigrationLoader) -> list[str]:
    """Return the applied migrations of our apps that this version has not."""
    replaced = {key for migration in loader.disk_migrations.values() for key in migration.replaces}
    known = loader.disk_migrations.keys() | replaced
    applied = [key for key in loader.applied_migrations if key[0] in loader.migrated_apps]
    return [".".join(key) for key in sorted(applied) if key not in known]


def schema_fault_at_first() -> str | None:
    """Like `schema_fault`, until there is none: servers of two versions may serve side by side."""
    global _is_schema_right
    fault = None if _is_schema_right else schema_fault()
    _is_schema_right = fault is None
    return fault


def static_fault() -> str | None:
    """Say what to do where scripts and styles were not collected, and are not served from where they lie."""
    static = Path(settings.STATIC_ROOT)
    is_needed = issubclass(type(storages["staticfiles"]), ManifestFilesMixin)
    if not is_needed or (static / ManifestFilesMixin.manifest_name).exists():
        return None
    return f"Nothing is collected in {static}: the admin site has no pages. Run manage.py collectstatic."


def refuse_unless_ready(*checks: Callable[[], str | None]) -> None:
    """Raise CommandError with the first fault. A database that does not answer yet is waited for."""
    for check in checks:
        try:
            fault = check()
        except Error as unreachable:
            logger.warning("The version of the database is not known yet: %s", type(unreachable).__name__)
            continue
        if fault:
            raise CommandError(f"{fault} manage.py doctor tells what else is missing.")
    connections.close_all()
