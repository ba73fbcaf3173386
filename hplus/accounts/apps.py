from django.apps import AppConfig
from django.db.models.signals import post_migrate


class AccountsConfig(AppConfig):
    name = "hplus.accounts"
    verbose_name = "People and hospitals"

    def ready(self) -> None:
        from hplus.accounts.rights import install_on_sqlite

        post_migrate.connect(install_on_sqlite, sender=self, dispatch_uid="rights on SQLite")
