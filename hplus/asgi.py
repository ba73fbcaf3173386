"""The ASGI application: HTTP goes to Django, WebSocket to the consumers."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hplus.settings")
django_application = get_asgi_application()

# Only after Django has loaded the applications.
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402

from hplus.api.addresses import LastSlash  # noqa: E402
from hplus.api.bodies import BodyLimit  # noqa: E402
from hplus.api.timeouts import TimeLimit  # noqa: E402
from hplus.realtime.process import ServerApplication  # noqa: E402
from hplus.routing import JOBS, socket_urls  # noqa: E402

http_application = LastSlash(BodyLimit(TimeLimit(django_application)))
application = ServerApplication(
    ProtocolTypeRouter({"http": http_application, "websocket": URLRouter(socket_urls)}), JOBS
)
