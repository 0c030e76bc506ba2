"""A service for notes over HTTP: JSON in, JSON out, and SQLite in /data.

usage: server.py --port PORT | --ask

With --ask, the service is started on a free port of the loopback interface with an empty database, asked as
a client would ask it, and stopped.
"""

import argparse
import json
import sqlite3
import threading
import urllib.error
import urllib.request
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

DATA = Path("/data")
LONGEST = 1 << 16


class Notes:
    """The notes in a database; each call has a connection of its own."""

    def __init__(self, file: Path) -> None:
        self.file = file
        with closing(self._open()) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self.file)

    def all(self) -> list[dict]:
        """Return every note."""
        with closing(self._open()) as database:
            rows = database.execute("SELECT id, text FROM notes ORDER BY id").fetchall()
        return [{"id": number, "text": text} for number, text in rows]

    def add(self, text: str) -> dict:
        """Keep a note, and return it."""
        with closing(self._open()) as database, database:
            number = database.execute("INSERT INTO notes (text) VALUES (?)", (text,)).lastrowid
        return {"id": number, "text": text}

    def remove(self, number: int) -> bool:
        """Remove a note; return whether it was there."""
        with closing(self._open()) as database, database:
            return database.execute("DELETE FROM notes WHERE id = ?", (number,)).rowcount == 1


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    notes: Notes

    def do_GET(self) -> None:
        """Answer with all notes, or with one."""
        if self.path == "/notes":
            self._answer(200, self.notes.all())
            return
        found = [note for note in self.notes.all() if self.path == f"/notes/{note['id']}"]
        self._answer(*(200, found[0]) if found else (404, {"error": "there is no such note"}))

    def do_POST(self) -> None:
        """Keep a note."""
        try:
            size = int(self.headers["Content-Length"])
            text = json.loads(self.rfile.read(min(size, LONGEST)))["text"]
        except (TypeError, ValueError, KeyError):
            text = None
        if isinstance(text, str):
            self._answer(201, self.notes.add(text))
        else:
            self._answer(400, {"error": "give a text as JSON"})

    def do_DELETE(self) -> None:
        """Remove a note."""
        number = self.path.removeprefix("/notes/")
        removed = number.isdecimal() and self.notes.remove(int(number))
        self._answer(204 if removed else 404, None if removed else {"error": "there is no such note"})

    def _answer(self, status: int, value: object) -> None:
        body = b"" if value is None else json.dumps(value).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing: who asks for what is nobody else's business."""


def service(port: int, file: Path) -> ThreadingHTTPServer:
    """Return the service, listening on the loopback interface."""
    Handler.notes = Notes(file)
    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def ask(base: str, method: str, path: str, value: object = None) -> None:
    """Send one request, and print it with its answer."""
    body = None if value is None else json.dumps(value).encode()
    request = urllib.request.Request(base + path, body, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            status, text = error.code, error.read()
    print(f"{method} {path} {status} {text.decode()}".strip())


def ask_everything() -> None:
    """Start the service with an empty database, ask it, and stop it."""
    file = DATA / "asked.db"
    file.unlink(missing_ok=True)
    with service(0, file) as server:
        threading.Thread(target=server.serve_forever).start()
        base = f"http://127.0.0.1:{server.server_port}"
        ask(base, "GET", "/notes")
        ask(base, "POST", "/notes", {"text": "milk"})
        ask(base, "POST", "/notes", {"text": "<b> & 'bread'"})
        ask(base, "GET", "/notes")
        ask(base, "GET", "/notes/2")
        ask(base, "DELETE", "/notes/1")
        ask(base, "GET", "/notes/1")
        ask(base, "POST", "/notes", {"txet": "slip"})
        server.shutdown()
    with closing(sqlite3.connect(file)) as database:
        (count,) = database.execute("SELECT count(*) FROM notes").fetchone()
    print(f"the data are in {DATA}: {count} note")


def main() -> None:
    """Serve, or ask."""
    parser = argparse.ArgumentParser()
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--port", type=int)
    what.add_argument("--ask", action="store_true")
    options = parser.parse_args()
    if options.ask:
        ask_everything()
        return
    with service(options.port, DATA / "notes.db") as server:
        print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
