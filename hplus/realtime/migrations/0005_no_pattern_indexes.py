"""Drop the second index that each text had: nothing is searched by how it begins, and each message wrote them."""

from django.db import migrations

PATTERN_INDEXES = r"""
SELECT DISTINCT index.relname
FROM pg_index
JOIN pg_class index ON index.oid = indexrelid
JOIN pg_opclass ON pg_opclass.oid = ANY (indclass)
WHERE opcname IN ('varchar_pattern_ops', 'text_pattern_ops') AND index.relname LIKE '%%\_like'
  AND index.relnamespace = current_schema()::regnamespace
"""


def drop(apps, schema_editor):
    if schema_editor.connection.vendor != "postgresql":
        return
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(PATTERN_INDEXES, [])
        names = [name for (name,) in cursor.fetchall()]
    for name in names:
        quoted = schema_editor.quote_name(name)
        schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {quoted}", None)


class Migration(migrations.Migration):
    atomic = False  # each is dropped without a lock that a message would wait for
    dependencies = [("realtime", "0004_is_connected")]
    operations = [migrations.RunPython(drop, migrations.RunPython.noop)]
