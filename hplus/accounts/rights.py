"""The database itself counts how often a person's rights change, and notes when they moved.

`rights_version` grows with each change of role, hospital, flags, groups or permissions, whoever makes it; a
connection keeps the version it was opened with. `moved_at` is when role or hospital changed last: what was
written before belongs to the former place.
"""

from __future__ import annotations

from typing import Any

RIGHTS = ("role", "hospital_id", "is_active", "is_staff", "is_superuser")
PLACE = ("role", "hospital_id")


def _columns(row: str, names: tuple[str, ...]) -> str:
    return ", ".join(f"{row}.{name}" for name in names)


ON_USER = f"""
CREATE OR REPLACE FUNCTION accounts_count_rights() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- A row that was loaded before another's change is saved with an old version, which counts for nothing.
    IF ({_columns("NEW", RIGHTS)}) IS DISTINCT FROM ({_columns("OLD", RIGHTS)})
        OR NEW.rights_version > OLD.rights_version
    THEN NEW.rights_version := OLD.rights_version + 1;
    ELSE NEW.rights_version := OLD.rights_version;
    END IF;
    IF ({_columns("NEW", PLACE)}) IS DISTINCT FROM ({_columns("OLD", PLACE)})
    THEN NEW.moved_at := clock_timestamp();
    ELSE NEW.moved_at := OLD.moved_at;
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER accounts_user_rights BEFORE UPDATE ON accounts_user
    FOR EACH ROW EXECUTE FUNCTION accounts_count_rights();
"""
# Each table that gives a person rights: its rows belong to the people that this condition names.
GIVERS = {
    "accounts_user_groups": "user_id = {row}.user_id",
    "accounts_user_user_permissions": "user_id = {row}.user_id",
    "auth_group_permissions": (
        "user_id IN (SELECT user_id FROM accounts_user_groups WHERE group_id = {row}.group_id)"
    ),
}
RAISED = "UPDATE accounts_user SET rights_version = rights_version + 1 WHERE {of}"


def on_postgresql() -> list[str]:
    statements = [ON_USER]
    for table, condition in GIVERS.items():
        new, old = (RAISED.format(of=condition.format(row=row)) for row in ("NEW", "OLD"))
        statements.append(f"""
CREATE OR REPLACE FUNCTION {table}_rights() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'DELETE' THEN {new}; END IF;
    IF TG_OP <> 'INSERT' THEN {old}; END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER {table}_rights AFTER INSERT OR UPDATE OR DELETE ON {table}
    FOR EACH ROW EXECUTE FUNCTION {table}_rights();
""")
    return statements


def off_postgresql() -> list[str]:
    tables = {"accounts_user": "accounts_count_rights", **{table: f"{table}_rights" for table in GIVERS}}
    dropped = [f"DROP TRIGGER {table}_rights ON {table}" for table in tables]
    return [*dropped, *(f"DROP FUNCTION {function}()" for function in tables.values())]


def on_sqlite() -> list[str]:
    """Make the triggers where they are missing: SQLite drops them when Django rebuilds a table."""
    is_other = " OR ".join(f"NEW.{name} IS NOT OLD.{name}" for name in RIGHTS)
    version = f"OLD.rights_version + (NEW.rights_version > OLD.rights_version OR {is_other})"
    is_elsewhere = " OR ".join(f"NEW.{name} IS NOT OLD.{name}" for name in PLACE)
    moved = f"CASE WHEN {is_elsewhere} THEN strftime('%Y-%m-%d %H:%M:%f', 'now') ELSE OLD.moved_at END"
    statements = [
        f"""
CREATE TRIGGER IF NOT EXISTS accounts_user_rights AFTER UPDATE ON accounts_user FOR EACH ROW
WHEN NEW.rights_version IS NOT {version} OR NEW.moved_at IS NOT ({moved})
BEGIN
    UPDATE accounts_user SET rights_version = {version}, moved_at = {moved} WHERE user_id = NEW.user_id;
END"""
    ]
    for table, condition in GIVERS.items():
        for event, row in (("INSERT", "NEW"), ("DELETE", "OLD")):
            statements.append(
                f"CREATE TRIGGER IF NOT EXISTS {table}_{event.lower()} AFTER {event} ON {table} FOR EACH ROW "
                f"BEGIN {RAISED.format(of=condition.format(row=row))}; END"
            )
    return statements


def run(connection: Any, statements: list[str]) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def install_on_sqlite(using: str = "default", **_kwargs: Any) -> None:
    """After each migration."""
    from django.db import connections

    connection = connections[using]
    if connection.vendor == "sqlite" and "accounts_user" in connection.introspection.table_names():
        run(connection, on_sqlite())
