"""An HTTP interface as ClickHouse's server has it, in front of ClickHouse's own engine as the package chdb-core carries it.

What a query means, the engine alone decides. This file has what the package lacks: requests, users' passwords, the answer's
head, and how an exception in the middle of an answer looks (`X-ClickHouse-Exception-Tag`, as of version 25.11).

    clickhouse_front.py PORT FOLDER [ENVIRONMENT]   # {"users": {"name": "password"}, "config": "PATH", "tls": [CERT, KEY, CA]}
"""

import json, os, re, ssl, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit
from chdb.session import Session

PORT, FOLDER = int(sys.argv[1]), sys.argv[2]
SETUP = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
USERS = SETUP.get("users", {"default": ""})
PATH = os.path.join(FOLDER, "data") + ("?config-file=" + SETUP["config"] if "config" in SETUP else "")
# What is no setting in a request's parameters.
PARAMETERS = {"query", "database", "default_format", "query_id", "user", "password", "wait_end_of_query", "buffer_size",
              "session_id", "session_timeout", "compress", "decompress", "quota_key"}
PIECE_BYTES = 1 << 16
FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*$", re.I)
INSERT = re.compile(r"^\s*INSERT\s", re.I)
READ = re.compile(r"^\s*(SELECT|WITH|SHOW|DESCRIBE|DESC|EXISTS|EXPLAIN|CHECK)\b", re.I)
TAG = "dedumpfronttag00"
# The engine begins with the first session, and ends with the last.
KEEPER = Session(PATH)
VERSION = KEEPER.query("SELECT version()", "TSVRaw").bytes().decode().strip()


def said(error):
    text = str(error)
    return text[text.find("Code: "):] if "Code: " in text else text


def code_of(text):
    found = re.match(r"Code: (\d+)", text)
    return found.group(1) if found else "1002"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = PIECE_BYTES

    def log_message(self, *_):
        with open(os.path.join(FOLDER, "requests"), "a") as log:
            log.write(self.requestline + "\n")

    def body(self):
        """Yields what is left of the request's body."""
        if self.is_read:
            return
        yield from self.unread()
        self.is_read = True

    def unread(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                left = size
                while left:
                    piece = self.rfile.read(min(left, PIECE_BYTES))
                    if not piece:
                        raise ConnectionError("the request was cut off")
                    left -= len(piece)
                    yield piece
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            piece = self.rfile.read(min(left, PIECE_BYTES))
            if not piece:
                raise ConnectionError("the request was cut off")
            left -= len(piece)
            yield piece

    def head(self, status, format="TabSeparated", extra=()):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=UTF-8" if status != 200 else "application/octet-stream")
        self.send_header("X-ClickHouse-Server-Display-Name", "front")
        self.send_header("X-ClickHouse-Format", format)
        self.send_header("X-ClickHouse-Exception-Tag", TAG)
        for name, value in extra:
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, piece):
        if piece:
            self.wfile.write(b"%x\r\n" % len(piece) + piece + b"\r\n")

    def end(self):
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def refuse(self, status, text):
        for _ in self.body():
            pass
        self.head(status, extra=[("X-ClickHouse-Exception-Code", code_of(text))])
        self.chunk((text + "\n").encode())
        self.end()

    def do_GET(self):
        if urlsplit(self.path).path == "/ping":
            self.head(200)
            self.chunk(b"Ok.\n")
            return self.end()
        self.do_POST()

    def do_POST(self):
        self.is_read = False
        parameters = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        user = self.headers.get("X-ClickHouse-User") or parameters.get("user") or "default"
        password = self.headers.get("X-ClickHouse-Key") or parameters.get("password") or ""
        if USERS.get(user) != password:
            text = (f"Code: 516. DB::Exception: {user}: Authentication failed: password is incorrect, or there is no user "
                    f"with such name. (AUTHENTICATION_FAILED) (version {VERSION})")
            return self.refuse(403, text)
        session = Session(PATH)
        try:
            self.answer(session, parameters)
        finally:
            session.close()

    def answer(self, session, parameters):
        settings = {name: value for name, value in parameters.items() if name not in PARAMETERS}
        query = parameters.get("query", "")
        try:
            for name, value in settings.items():
                quoted = value.replace("\\", "\\\\").replace("'", "\\'")
                session.query(f"SET {name} = '{quoted}'")
            if parameters.get("database"):
                session.query(f"USE `{parameters['database']}`")
            if INSERT.match(query):
                return self.insert(session, query)
            query += b"".join(self.body()).decode()
            if "FORMAT Native" in query and READ.match(query) and not parameters.get("wait_end_of_query"):
                return self.stream(session, query)
            form = FORMAT.search(query) if READ.match(query) else None
            answer = session.query(query, form.group(1) if form else parameters.get("default_format", "TabSeparated"))
        except ConnectionError:
            self.close_connection = True
            return
        except Exception as error:
            text = f"{said(error)} (version {VERSION})"
            return self.refuse(404 if code_of(text) in ("60", "81") else 500, text)
        rows = max(answer.rows_read(), 0) if answer else 0
        self.head(200, form.group(1) if form else "TabSeparated",
                  [("X-ClickHouse-Summary", json.dumps({"read_rows": str(rows)}))])
        self.chunk(answer.bytes() if answer else b"")
        self.end()

    def insert(self, session, query):
        form = FORMAT.search(query)
        inserter, written = session.send_insert(query[:form.start()], form.group(1)), 0
        try:
            for piece in self.body():
                inserter.append(piece)
            written = inserter.finish().rows_written
        except ConnectionError:
            inserter.cancel()
            raise
        self.head(200, extra=[("X-ClickHouse-Summary", json.dumps({"written_rows": str(written)}))])
        self.end()

    def stream(self, session, query):
        query, begun = FORMAT.sub("", query), False
        try:
            pieces = session.send_query(query, "Native")
            while (piece := pieces.fetch()) is not None and piece.size():
                if not begun:
                    self.head(200, "Native")
                    begun = True
                self.chunk(piece.bytes())
                self.wfile.flush()
                # Tests that want the middle of an answer make it last.
                time.sleep(SETUP.get("pause", 0))
        except (BrokenPipeError, ConnectionError):
            self.close_connection = True
            return
        except Exception as error:
            text = f"{said(error)} (version {VERSION})"
            if not begun:
                return self.refuse(500, text)
            body = text + "\r\n"
            self.chunk(f"\r\n__exception__\r\n{TAG}\r\n{body}{len(body.encode())} {TAG}\r\n__exception__\r\n".encode())
            self.wfile.flush()
            # Without the last chunk: so does the server, as of 24.11.
            self.close_connection = True
            return
        if not begun:
            self.head(200, "Native")
        self.end()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


server = Server(("127.0.0.1", PORT), Handler, bind_and_activate=False)
server.server_bind()
if "tls" in SETUP:
    certificate, key, authority = SETUP["tls"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if authority:
        context.load_verify_locations(authority)
        context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.server_activate()
server.serve_forever()
