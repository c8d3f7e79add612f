"""An OpenAI-compatible server on this machine: what it is asked is kept, and what it answers is set."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlunsplit


class ChatServer(ThreadingHTTPServer):
    """asked: (path, headers, body) of each request. body: of the answer; None: a completion with `text`."""

    def __init__(self, text: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.text, self.status, self.body = text, 200, None

    @property
    def url(self) -> str:
        """The address to name."""
        return urlunsplit(("http", f"127.0.0.1:{self.server_address[1]}", "/v1", "", ""))

    def answer(self) -> bytes:
        """The body of an answer."""
        if self.body is not None:
            return self.body
        return json.dumps({"choices": [{"message": {"role": "assistant", "content": self.text}}]}).encode()


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, dict(self.headers), body))
        answer = self.server.answer()
        self.send_response(self.server.status)
        self.send_header("Location", f"{self.server.url}/elsewhere")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *given: Any) -> None:
        pass


@contextmanager
def serving(text: str) -> Iterator[ChatServer]:
    """A server that answers this text, until the end of the block."""
    with ChatServer(text) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
