"""Somebody signed in to the admin site, without a browser."""

from __future__ import annotations

from typing import Any

from django.db.models import Model
from django.test import Client
from django.urls import reverse

from hplus.accounts.models import User


def admin_client_of(user: User | str, **options: Any) -> Client:
    """This person, or whoever has this userId."""
    client = Client(**options)
    client.force_login(user if isinstance(user, User) else User.objects.get(pk=user))
    return client


def page(model: type[Model], view: str, *ids: Any) -> str:
    """The address of a model's page: `changelist`, `change`, `add` …"""
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{view}", args=ids)
