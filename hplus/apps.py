from django.apps import AppConfig


class HPlusConfig(AppConfig):
    """Commands and checks that span all domains."""

    name = "hplus"
    verbose_name = "HPlus"

    def ready(self) -> None:
        from hplus.operations import checks  # noqa: F401 registers the checks
