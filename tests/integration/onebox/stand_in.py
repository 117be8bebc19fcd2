"""Plays every service of the platform: the gateway answers its health, the lake host has a process of its own."""

import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

name = sys.argv[1]
if name == os.environ.get("STAND_IN_BROKEN"):
    sys.exit(f"ValueError: {name} is broken on purpose")
if name == os.environ.get("STAND_IN_STUBBORN"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if name == "lake-host":  # a grandchild that nobody of its family ends
    subprocess.Popen(["sleep", "600"])


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/api/v1/health" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


Path(os.environ["WEIR_DATA_DIR"], f"{name}.pid").write_text(str(os.getpid()))
Path(os.environ["WEIR_DATA_DIR"], f"{name}.env").write_text(
    "\n".join(f"{k}={v}" for k, v in os.environ.items())
)
if name == "gateway":
    HTTPServer(("127.0.0.1", int(os.environ["WEIR_PORT"])), Health).serve_forever()
while True:
    time.sleep(600)
