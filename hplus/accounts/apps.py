from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "hplus.accounts"
    verbose_name = "People and hospitals"
