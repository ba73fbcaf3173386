from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    """What a position is shown for is a reason; who read one has accessed it. Renames take a moment's lock.

    Indexes and constraints follow the renamed column by themselves; only Django's state of them is told.
    """

    dependencies = [("location", "0002_latest_position")]

    operations = [
        migrations.RenameModel("Reading", "PositionAccess"),
        migrations.RenameIndex("Grant", new_name="grant_by_reason", old_name="grant_by_topic"),
        migrations.RenameIndex("Fix", new_name="fix_by_reason", old_name="fix_by_topic"),
        migrations.RenameIndex("Fix", new_name="fix_without_reason", old_name="fix_off_topic"),
        migrations.RenameField("Grant", "topic", "reason_id"),
        migrations.RenameField("Fix", "topic", "reason_id"),
        migrations.RenameField("Latest", "topic", "reason_id"),
        migrations.RenameField("Inquiry", "topic", "reason_id"),
        migrations.RenameField("PositionAccess", "topic", "reason_id"),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.RemoveIndex("Grant", "grant_by_reason"),
                migrations.AddIndex("Grant", models.Index(fields=["reason_id"], name="grant_by_reason")),
                migrations.RemoveIndex("Fix", "fix_by_reason"),
                migrations.AddIndex(
                    "Fix",
                    models.Index(fields=["reason_id", "at"], name="fix_by_reason", condition=~Q(reason_id="")),
                ),
                migrations.RemoveIndex("Fix", "fix_without_reason"),
                migrations.AddIndex(
                    "Fix",
                    models.Index(
                        fields=["received_at"], name="fix_without_reason", condition=Q(reason_id="")
                    ),
                ),
                migrations.RemoveConstraint("Grant", "granted_once_to_a_person"),
                migrations.AddConstraint(
                    "Grant",
                    models.UniqueConstraint(
                        fields=["reason_id", "subject", "to_user"],
                        condition=Q(closed_at=None, to_user__isnull=False),
                        name="granted_once_to_a_person",
                    ),
                ),
                migrations.RemoveConstraint("Grant", "granted_once_to_a_hospital"),
                migrations.AddConstraint(
                    "Grant",
                    models.UniqueConstraint(
                        fields=["reason_id", "subject", "to_hospital"],
                        condition=Q(closed_at=None, to_hospital__isnull=False),
                        name="granted_once_to_a_hospital",
                    ),
                ),
            ],
        ),
    ]
