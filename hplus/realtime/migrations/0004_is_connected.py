"""A function that says whether a user has a connection now; a statement itself sees what was when it began."""

from django.db import migrations

CREATE = """
CREATE FUNCTION realtime_is_connected(person text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN EXISTS (SELECT FROM realtime_connection WHERE user_id = person);
END $$;
"""
DROP = "DROP FUNCTION realtime_is_connected(text)"


def on_postgresql(sql):
    def run(apps, schema_editor):
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.execute(sql)

    return run


class Migration(migrations.Migration):
    dependencies = [("realtime", "0003_entry_without_constraint")]
    operations = [migrations.RunPython(on_postgresql(CREATE), on_postgresql(DROP))]
