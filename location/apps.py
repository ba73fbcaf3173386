from django.apps import AppConfig


class LocationConfig(AppConfig):
    name = "location"
    verbose_name = "Where everyone is"
