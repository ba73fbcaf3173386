from django.apps import AppConfig


class RealtimeConfig(AppConfig):
    name = "hplus.realtime"
    verbose_name = "Connections"
