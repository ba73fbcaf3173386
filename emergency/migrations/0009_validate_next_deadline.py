from django.db import migrations

from hplus.operations.online_migrations import ValidateCheckOnline


class Migration(migrations.Migration):

    dependencies = [
        ('emergency', '0008_emergency_to_check'),
    ]

    operations = [
        ValidateCheckOnline(model_name='emergency', name='open_has_a_next_deadline'),
    ]
