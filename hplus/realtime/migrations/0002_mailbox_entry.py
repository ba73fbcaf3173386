from django.db import migrations


class Migration(migrations.Migration):
    """Letters are mailbox entries, their word is an event type. Renames take a moment's lock."""

    dependencies = [("realtime", "0001_initial")]

    operations = [
        migrations.RenameModel("Letter", "MailboxEntry"),
        migrations.RenameField("MailboxEntry", "word", "event_type"),
        migrations.RenameIndex("MailboxEntry", new_name="entry_by_subject", old_name="letter_by_subject"),
        migrations.RenameIndex("MailboxEntry", new_name="entry_by_age", old_name="letter_by_age"),
    ]
