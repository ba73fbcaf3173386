import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.db.models import Exists, F, OuterRef, Q


def agree_where_the_patient_wrote(apps, schema_editor):
    """Rooms among staff, and those in which the patient wrote; of the others contacts end until the next use."""
    ChatRoom, Message = apps.get_model("chat", "ChatRoom"), apps.get_model("chat", "Message")
    Contact = apps.get_model("realtime", "Contact")
    wrote = Message.objects.filter(room=OuterRef("pk"), sender__role="patient")
    among_staff = ~Q(first__role="patient") & ~Q(second__role="patient")
    agreed = ChatRoom.objects.filter(Exists(wrote) | among_staff).values("pk")
    ChatRoom.objects.filter(pk__in=agreed).update(agreed_at=F("created_at"))
    Contact.objects.filter(topic__in=ChatRoom.objects.filter(agreed_at=None).values("pk")).delete()


class Migration(migrations.Migration):

    dependencies = [
        ('chat', '0005_lean_messages'),
        ('realtime', '0001_initial'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name='chatroom',
            name='agreed_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='chatroom',
            name='opened_by',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.RunPython(agree_where_the_patient_wrote, migrations.RunPython.noop),
    ]
