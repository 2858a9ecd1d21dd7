"""Stand-ins for mongodump and mongorestore, written from the specification of the archive and from what the tools say.

    mongo_tools.py FOLDER mongodump|mongorestore ARGUMENTS

A server is a folder, FOLDER/HOST, with DATABASE/COLLECTION.bson and .metadata.json in it, and server.json beside them. Every
call's arguments and environment go to FOLDER/calls, so that a test can look for secrets in them.
"""

import json
import os
import pathlib
import struct
import sys
import time
import urllib.parse

TERMINATOR = b"\xff\xff\xff\xff"
FAILED, PIECE = 1, 16 * 1024


def crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0xC96C5795D7870F42 if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = crc_table()


def crc64(data, crc=0):
    """CRC-64-ECMA as Go's hash/crc64 has it."""
    crc ^= (1 << 64) - 1
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ ((1 << 64) - 1)


def text(name, value):
    value = value.encode()
    return b"\x02" + name.encode() + b"\0" + struct.pack("<i", len(value) + 1) + value + b"\0"


def document(*elements):
    body = b"".join(elements)
    return struct.pack("<i", len(body) + 5) + body + b"\0"


def namespace_header(database, collection, crc=None):
    eof = b"\x08EOF\0" + (b"\0" if crc is None else b"\1")
    number = struct.pack("<q", 0) if crc is None else struct.pack("<Q", crc)
    return document(text("db", database), text("collection", collection), eof, b"\x12CRC\0" + number)


def elements(raw):
    """The elements of a document that has no others than these tests write."""
    at, found = 4, {}
    while raw[at]:
        kind, end = raw[at], raw.index(0, at + 1)
        name, at = raw[at + 1:end].decode(), end + 1
        length = {0x08: 1, 0x10: 4, 0x12: 8, 0x07: 12, 0x0A: 0, 0x01: 8, 0x11: 8}.get(kind)
        if length is None:
            announced = struct.unpack_from("<i", raw, at)[0]
            length = {0x02: 4, 0x03: 0, 0x04: 0, 0x05: 5}[kind] + announced
        found[name] = (kind, raw[at:at + length])
        at += length
    return found


def string(raw, name):
    kind, value = elements(raw).get(name, (0x02, b"\1\0\0\0\0"))
    assert kind == 0x02, name
    return value[4:-1].decode()


def split(raw):
    """The documents of a .bson file."""
    while raw:
        length = struct.unpack_from("<i", raw)[0]
        yield raw[:length]
        raw = raw[length:]


def log(line):
    print(f"2026-01-01T00:00:00.000+0000\t{line}", file=sys.stderr, flush=True)


def fail(line):
    log(f"Failed: {line}")
    sys.exit(FAILED)


class Server:
    def __init__(self, folder, uri, tool):
        scheme, rest = uri.split("://")
        assert scheme == "mongodb", uri
        rest, _, query = rest.partition("?")
        authority, _, rest = rest.rpartition("@")
        host, _, self.database = rest.partition("/")
        self.database = urllib.parse.unquote(self.database)
        self.root = folder / host
        if not self.root.is_dir():
            fail("can't create session: failed to connect: server selection error: server selection timeout, "
                 f"current topology: {{ Addr: {host}, Last error: dial tcp: connection refused }}")
        self.settings = json.loads((self.root / "server.json").read_text())
        options = dict(option.split("=") for option in query.split("&") if option)
        source = options.get("authSource", self.database or "admin")
        user, _, password = authority.partition(":")
        users = self.settings.get("users")
        if users is not None:
            known = users.get(f"{source}.{urllib.parse.unquote(user)}")
            if not user or known is None or known["password"] != urllib.parse.unquote(password):
                fail('can\'t create session: failed to connect: connection() error occurred during connection handshake: '
                     'auth error: unable to authenticate using mechanism "SCRAM-SHA-256": (AuthenticationFailed) '
                     'Authentication failed.')
            if tool not in known["tools"]:
                fail('error getting collections for database: (Unauthorized) not authorized on shop to execute command '
                     '{ listCollections: 1 }')

    def metadata_path(self, database, name):
        return self.root / database / f"{urllib.parse.quote(name, safe='')}.metadata.json"

    def data_path(self, database, name):
        return self.root / database / f"{urllib.parse.quote(name, safe='')}.bson"

    def collections(self, database):
        for path in sorted((self.root / database).glob("*.metadata.json")):
            yield urllib.parse.unquote(path.name.removesuffix(".metadata.json")), path.read_text()


def data_name(name, metadata):
    return f"system.buckets.{name}" if json.loads(metadata).get("type") == "timeseries" else name


def dump(folder, options, uri):
    server = Server(folder, uri, "mongodump")
    fault = server.settings.get("fault", {})
    databases = [server.database] if server.database else sorted(
        path.name for path in server.root.iterdir() if path.is_dir() and path.name not in ("local", "config"))
    found = [(database, name, metadata) for database in databases if (server.root / database).is_dir()
             for name, metadata in server.collections(database)]
    out = Faulty(sys.stdout.buffer, fault)
    prelude = document(b"\x10concurrent_collections\0" + struct.pack("<i", 1), text("version", "0.1"),
                       text("server_version", server.settings["version"]), text("tool_version", "100.9.4"))
    out.write(struct.pack("<I", 0x8199E26D) + prelude)
    if "oplog" in options:
        if not server.settings.get("oplog"):
            fail("error finding oplog: error determining oplog collection")
    announced = [(database, name, metadata, json.loads(metadata).get("type", "collection"))
                 for database, name, metadata in found]
    announced += [("", "oplog", "", "")] if "oplog" in options else []
    for database, name, metadata, kind in announced:
        out.write(document(text("db", database), text("collection", name), text("metadata", metadata),
                           b"\x10size\0" + struct.pack("<i", 0), text("type", kind)))
    out.write(TERMINATOR)
    bodies = []
    for database, name, metadata in found:
        path = server.data_path(database, data_name(name, metadata))
        body = path.read_bytes() if path.exists() else b""
        bodies.append((database, data_name(name, metadata), list(split(body))))
    if "oplog" in options:
        bodies.append(("", "oplog", list(split((server.root / "oplog.bson").read_bytes()))))
    in_turns(out, bodies) if server.settings.get("in_turns") else one_by_one(out, bodies)
    out.finish()


def one_by_one(out, bodies):
    for database, name, documents in bodies:
        log(f"writing {database}.{name} to archive on stdout")
        body = b"".join(documents)
        out.write(namespace_header(database, name) + body + TERMINATOR)
        out.write(namespace_header(database, name, crc64(body)) + TERMINATOR)
        log(f"done dumping {database}.{name} ({len(documents)} documents)")
        if out.fault.get("ends_after") == name:
            out.out.flush()
            os._exit(0)


def in_turns(out, bodies):
    """Three at a time, as three threads would write them."""
    for start in range(0, len(bodies), 3):
        group = [(database, name, list(documents), b"".join(documents))
                 for database, name, documents in bodies[start:start + 3]]
        while any(documents for _, _, documents, _ in group):
            for database, name, documents, _ in group:
                if documents:
                    out.write(namespace_header(database, name) + b"".join(documents[:2]) + TERMINATOR)
                    del documents[:2]
        for database, name, _, body in group:
            out.write(namespace_header(database, name, crc64(body)) + TERMINATOR)


class Faulty:
    """Standard output, and what goes wrong with it."""

    def __init__(self, out, fault):
        self.out, self.fault, self.at = out, fault, 0

    def write(self, data):
        start, self.at = self.at, self.at + len(data)
        flip = self.fault.get("flip_at")
        if flip is not None and start <= flip < self.at:
            data = bytearray(data)
            data[flip - start] ^= 0x40
        for name in ("cut_at", "die_at", "hang_at"):
            place = self.fault.get(name)
            if place is not None and place < self.at:
                self.out.write(data[:max(0, place - start)])
                self.out.flush()
                if name == "die_at":
                    fail("error writing data for collection `shop.orders` to disk: error reading collection: "
                         "connection(db:27017) incomplete read of message header: EOF")
                if name == "hang_at":
                    time.sleep(600)
                os._exit(0)
        self.out.write(data)

    def finish(self):
        self.out.flush()
        if self.fault.get("fails_at_the_end"):
            fail("archive writer: short write / oplog overflow: mongodump was unable to capture all new oplog entries")


class Archive:
    def __init__(self, source):
        self.source = source

    def take(self, length):
        data = self.source.read(length)
        if len(data) != length:
            fail("stream or file does not appear to be a mongodump archive" if length == 4 else "unexpected EOF")
        return data

    def item(self):
        head = self.source.read(4)
        if head in (b"", TERMINATOR):
            return head
        length = struct.unpack("<i", head)[0]
        return head + self.take(length - 4)

    def blocks(self):
        while header := self.item():
            documents = []
            while (one := self.item()) != TERMINATOR:
                assert one, "the archive ends in a block"
                documents.append(one)
            yield header, documents


def restore(folder, options, uri):
    server = Server(folder, uri, "mongorestore")
    fault = server.settings.get("fault", {})
    archive = Archive(sys.stdin.buffer)
    if archive.take(4) != struct.pack("<I", 0x8199E26D):
        fail("stream or file does not appear to be a mongodump archive")
    archive.item()
    wanted, oplog = {}, []
    while (one := archive.item()) != TERMINATOR:
        database, name, metadata = string(one, "db"), string(one, "collection"), string(one, "metadata")
        if database:
            wanted[(database, data_name(name, metadata))] = (name, metadata)
    crcs, restored, failed, log_of = {}, 0, 0, []
    for header, documents in archive.blocks():
        database, name = string(header, "db"), string(header, "collection")
        key, body = (database, name), b"".join(documents)
        crcs[key] = crc64(body, crcs.get(key, 0))
        if elements(header)["EOF"][1] == b"\1":
            crc = struct.unpack("<Q", elements(header)["CRC"][1])[0]
            if crc != crcs[key]:
                fail(f"CRC mismatch for namespace {database}.{name}, {crcs[key]}!={crc}")
            continue
        if not database:
            log_of += documents
            continue
        public, metadata = wanted[key]
        target = rename(options, database)
        (server.root / target).mkdir(exist_ok=True)
        data = server.data_path(target, name)
        there = server.metadata_path(target, public)
        if "drop" in options:
            data.unlink(missing_ok=True)
            there.unlink(missing_ok=True)
        if fault.get("loses_index"):
            changed = json.loads(metadata)
            changed["indexes"] = changed.get("indexes", [])[:-1]
            metadata = json.dumps(changed)
        there.write_text(metadata)
        ids = {elements(one)["_id"] for one in split(data.read_bytes())} if data.exists() else set()
        if fault.get("somebody_writes") == public:
            ids.add(elements(documents[0])["_id"])
        with data.open("ab") as file:
            for number, one in enumerate(documents):
                if elements(one)["_id"] in ids:
                    log(f"continuing through error: E11000 duplicate key error collection: {target}.{name}")
                    failed += 1
                    if "maintainInsertionOrder" in options:
                        fail(f"{target}.{public}: error restoring from archive on stdin: (DuplicateKey) E11000 duplicate key")
                    continue
                if fault.get("loses_document") == public and number == 0:
                    continue
                if fault.get("die_in") == public and number == 1:
                    fail(f"{target}.{public}: error restoring from archive on stdin: connection(db:27017) EOF")
                file.write(one)
                restored += 1
        log(f"finished restoring {target}.{public} ({len(documents)} documents, 0 failures)")
    if "oplogReplay" in options:
        for entry in log_of:
            database, _, name = string(entry, "ns").partition(".")
            with server.data_path(database, name).open("ab") as file:
                file.write(elements(entry)["o"][1])
    if not fault.get("says_nothing"):
        log(f"{restored} document(s) restored successfully. {failed} document(s) failed to restore.")


def rename(options, database):
    if options.get("nsFrom", "").removesuffix(".*") == database:
        return options["nsTo"].removesuffix(".*")
    return database


def main():
    folder, tool, arguments = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    with (folder / "calls").open("a") as calls:
        calls.write(json.dumps({"arguments": sys.argv, "environment": dict(os.environ)}) + "\n")
    if arguments == ["--version"]:
        print(f"{tool} version: 100.9.4\ngit version: 0\nGo version: go1.21")
        return
    options = dict(argument.removeprefix("--").partition("=")[::2] for argument in arguments)
    uri = json.loads(pathlib.Path(options["config"]).read_text())["uri"]
    (dump if tool == "mongodump" else restore)(folder, options, uri)


main()
