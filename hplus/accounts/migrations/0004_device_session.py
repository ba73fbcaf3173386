from django.db import migrations


class Migration(migrations.Migration):
    """The session of a device, not one of Django's. Renames take a moment's lock."""

    # After those that made foreign keys to it under its old name.
    dependencies = [
        ("accounts", "0003_signed_out_at"),
        ("push", "0002_a_device_can_be_revoked"),
        ("realtime", "0001_initial"),
    ]

    operations = [migrations.RenameModel("Session", "DeviceSession")]
