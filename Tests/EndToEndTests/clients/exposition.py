"""A scrape target: serves the files of a folder, `.txt` as text 0.0.4 and `.om` as OpenMetrics; what is not there is a 404.

usage: exposition.py PORT FOLDER
"""
import http.server
import os
import sys

TYPES = {".txt": "text/plain; version=0.0.4; charset=utf-8", ".om": "application/openmetrics-text; version=1.0.0; charset=utf-8", ".html": "text/html"}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = os.path.join(sys.argv[2], os.path.basename(self.path.split("?")[0]))
        if os.path.isfile(path):
            with open(path, "rb") as file:
                body = file.read()
            self.send_response(200)
            self.send_header("Content-Type", TYPES.get(os.path.splitext(path)[1], "application/octet-stream"))
        else:
            body = b"nothing here\n"
            self.send_response(404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
