from django.apps import AppConfig


class HPlusConfig(AppConfig):
    """The commands and checks that span the domains."""

    name = "hplus"
    verbose_name = "HPlus"

    def ready(self) -> None:
        from hplus.operations import checks  # noqa: F401 registers the checks
