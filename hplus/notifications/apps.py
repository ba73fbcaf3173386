from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    name = "hplus.notifications"
    verbose_name = "Notifications"
