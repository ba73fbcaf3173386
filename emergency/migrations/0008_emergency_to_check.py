from django.db import migrations, models

from hplus.operations.online_migrations import AddIndexOnline


class Migration(migrations.Migration):

    atomic = False
    dependencies = [
        ('emergency', '0007_stalled'),
    ]

    operations = [
        AddIndexOnline(
            model_name='emergency',
            index=models.Index(condition=models.Q(('status__in', ('pending', 'accepted', 'in_progress'))), fields=['check_at'], name='emergency_to_check'),
        ),
    ]
