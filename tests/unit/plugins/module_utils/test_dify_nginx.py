# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_nginx import RESOLVER, following

SERVICES = ("api", "web", "plugin_daemon", "nginx")
# Written for this test, in the shapes that releases have.
TEMPLATE = """server {
    listen ${NGINX_PORT};
    location /api {
      proxy_pass http://api:5001;
      include proxy.conf;
    }
    # proxy_pass http://api:5001;
    location /e/ { proxy_pass http://plugin_daemon:5002; include proxy.conf; }
    location /socket.io/ {
      resolver 127.0.0.11 valid=30s ipv6=off;
      set $socket_io_upstream ${NGINX_SOCKET_IO_UPSTREAM};
      proxy_pass http://$socket_io_upstream;
    }
    location /elsewhere { proxy_pass http://files.example.com:80; }
    location /path { proxy_pass http://web:3000/path; }
    location / { proxy_pass http://web; }
    ${HTTPS_CONFIG}
}
"""


def test_names_of_services_are_resolved_with_every_request():
    found = following(TEMPLATE, SERVICES)
    assert found.startswith(RESOLVER + "server {\n    listen ${NGINX_PORT};\n")
    assert "      set $to_api http://api:5001; proxy_pass $to_api;\n      include proxy.conf;" in found
    assert "{ set $to_plugin_daemon http://plugin_daemon:5002; proxy_pass $to_plugin_daemon; include proxy.conf; }" in found
    assert "{ set $to_web http://web; proxy_pass $to_web; }" in found


@pytest.mark.parametrize(
    "line", ["# proxy_pass http://api:5001;", "proxy_pass http://$socket_io_upstream;", "proxy_pass http://files.example.com:80;", "http://web:3000/path;"]
)
def test_the_rest_stays_as_upstream_has_it(line):
    assert line in following(TEMPLATE, SERVICES)


def test_a_release_that_does_it_itself_keeps_its_file():
    assert following(TEMPLATE, ["db"]) == following("", SERVICES) == ""
