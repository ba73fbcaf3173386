from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "hplus.audit"

    def ready(self) -> None:
        from hplus.audit import logins  # noqa: F401 listens to Django's own sign-in signals
