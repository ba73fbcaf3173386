import json
import re

from django.db import migrations, models

OURS = re.compile(r"/api/chat/attachments/([0-9a-f-]{36})")


def named_in(messages):
    return {pk for files in messages.values_list("attachments", flat=True) for pk in OURS.findall(json.dumps(files))}


def withdraw(apps, schema_editor):
    """What was deleted before this migration takes its files along, too."""
    with_files = apps.get_model("chat", "Message").objects.exclude(attachments=None)
    deleted = with_files.exclude(deleted_at=None)
    for room, deleted_at in deleted.order_by().values_list("room").annotate(models.Max("deleted_at")):
        in_room = with_files.filter(room=room)
        gone = named_in(in_room.exclude(deleted_at=None)) - named_in(in_room.filter(deleted_at=None))
        files = apps.get_model("chat", "Attachment").objects.filter(room=room, pk__in=gone)
        files.update(withdrawn_at=deleted_at)


class Migration(migrations.Migration):

    dependencies = [
        ('chat', '0002_legal_hold'),
    ]

    operations = [
        migrations.AddField(
            model_name='attachment',
            name='withdrawn_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.RunPython(withdraw, migrations.RunPython.noop),
    ]
