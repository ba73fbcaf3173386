"""The server keeps an idle connection for longer than the proxy before it."""

from __future__ import annotations

import re
from pathlib import Path

from hplus.operations.serving import configuration

NGINX = Path(__file__).parents[2] / "deploy" / "nginx.conf"


def test_server_closes_idle_connections_later_than_nginx_does() -> None:
    upstream = NGINX.read_text().partition("upstream hplus {")[2].partition("}")[0]
    found = re.search(r"keepalive_timeout (\d+)s;", upstream)
    assert found is not None
    assert configuration().timeout_keep_alive > int(found[1])
