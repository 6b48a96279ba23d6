# SPDX-License-Identifier: Apache-2.0
"""An HTTP server that answers every GET with the address the request came from. usage: echo.py PORT."""

from __future__ import annotations

import http.server
import socket
import sys


class _Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = self.client_address[0].removeprefix("::ffff:").encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _DualStackServer(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


_DualStackServer(("::", int(sys.argv[1])), _Answer).serve_forever()
