"""The theme of the admin site (django-unfold) and its sidebar."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse

# Heading → (model, title, symbol of the Material font). Models without an admin page are left out.
SIDEBAR = {
    "Now": [
        ("emergency.emergency", "Emergencies", "emergency"),
        ("emergency.hospitalpart", "Given away", "output"),
        ("realtime.connection", "Who is online", "sensors"),
        ("location.latest", "Positions", "my_location"),
    ],
    "Conversations": [
        ("chat.chatroom", "Chats", "forum"),
        ("chat.message", "Messages", "search"),
        ("calls.call", "Calls", "call"),
        ("notifications.notification", "Notices", "notifications"),
    ],
    "People": [
        ("accounts.user", "People", "group"),
        ("accounts.session", "Sessions", "devices"),
        ("push.pushdevice", "Phones", "smartphone"),
    ],
    "Hospital": [
        ("accounts.hospital", "Hospitals", "local_hospital"),
        ("emergency.hospitalpolicy", "Alerting", "rule"),
    ],
    "Traces": [
        ("audit.record", "Audit", "policy"),
        ("location.fix", "Tracks", "route"),
        ("location.positionaccess", "Who looked where", "visibility"),
        ("location.grant", "Who may see whom", "lock_open"),
        ("location.inquiry", "Inquiries", "contact_support"),
        ("push.pushoutbox", "Pushes", "outbox"),
    ],
}


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the sidebar with the pages this user may open."""
    from django.contrib import admin  # the settings import this module before apps are loaded

    admins = {model._meta.label_lower: model_admin for model, model_admin in admin.site._registry.items()}
    board = {"title": "Board", "icon": "dashboard", "link": reverse("admin:index")}
    groups = [{"title": "", "separator": False, "items": [board]}]
    for heading, entries in SIDEBAR.items():
        items = [
            {"title": title, "icon": icon, "link": _list_of(label)}
            for label, title, icon in entries
            if label in admins and admins[label].has_module_permission(request)
        ]
        groups.append({"title": heading, "separator": True, "items": items})
    return [group for group in groups if group["items"]]


def _list_of(label: str) -> str:
    return reverse(f"admin:{label.replace('.', '_')}_changelist")


UNFOLD = {
    "SITE_TITLE": "HPlus",
    "SITE_HEADER": "HPlus",
    "SITE_SUBHEADER": "Hospital console, times in UTC",
    "SITE_SYMBOL": "emergency",
    "SITE_URL": "/admin/",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "/static/hplus/icon.svg"}],
    "STYLES": [lambda request: static("hplus/admin.css")],
    "SCRIPTS": [lambda request: static("hplus/keyboard.js")],
    "LOGIN": {"form": "hplus.accounts.login_throttle.SignInForm"},
    "SHOW_VIEW_ON_SITE": False,
    "DASHBOARD_CALLBACK": "emergency.admin.front_page",
    "SHOW_HISTORY": True,
    "BORDER_RADIUS": "6px",
    # A calm blue: red, amber and green keep their clinical meaning.
    "COLORS": {
        "primary": {
            "50": "oklch(97.0% .014 240)",
            "100": "oklch(93.5% .030 240)",
            "200": "oklch(88.0% .058 240)",
            "300": "oklch(80.5% .098 240)",
            "400": "oklch(71.5% .135 241)",
            "500": "oklch(62.0% .150 243)",
            "600": "oklch(53.0% .142 246)",
            "700": "oklch(46.0% .124 248)",
            "800": "oklch(39.5% .102 250)",
            "900": "oklch(34.5% .082 252)",
            "950": "oklch(26.0% .062 254)",
        },
    },
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": "hplus.admin_site.theme.navigation",
    },
}
