"""Answers with its task's id; falls ill on `/sicken`; on `/ask?URL` with what is found there."""

import os
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ill = False


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        global ill
        path, _, query = self.path.partition("?")
        ill = ill or path == "/sicken"
        body = os.environ["MESOS_TASK_ID"].encode()
        if path == "/ask":
            with urllib.request.urlopen(query, timeout=10) as answer:
                body = answer.read()
        self.send_response(500 if ill and path == "/health" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Handler).serve_forever()
