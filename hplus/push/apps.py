from django.apps import AppConfig


class PushConfig(AppConfig):
    name = "hplus.push"
    verbose_name = "Push"

    def ready(self) -> None:
        from hplus.push import checks  # noqa: F401 registers the check
