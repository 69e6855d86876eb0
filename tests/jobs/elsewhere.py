"""A client of another machine that has Python and nothing else: HTTP, event streams, WebSockets.

    python -I -S elsewhere.py http://127.0.0.1:8888 TOKEN

Each line that it reads is a call, ["submit", {...}], and each line that it writes what came of it.
"""

import base64
import json
import os
import socket
import struct
import sys
import urllib.parse
import urllib.request

SECONDS = 25
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class Client:
    def __init__(self, url, token):
        self.url = url
        self.headers = {"Authorization": f"Bearer {token}"}

    def submit(self, body):
        with self.open("/api/tasks", {}, json.dumps(body).encode()) as answer:
            return json.load(answer)

    def stream(self, task_id, last_id, message):
        """Follow a task from an id on, up to a message; "": to the end."""
        resumed = {"Last-Event-ID": last_id} if last_id else {}
        with self.open("/api/tasks/" + task_id, resumed) as answer:
            events = blocks(answer) if answer.status == 200 else []
            return {"status": answer.status, "events": up_to(message, events)}

    def socket(self, task_id, last_id, message):
        """Do as `stream`, over a WebSocket."""
        address = urllib.parse.urlsplit(self.url)
        with socket.create_connection((address.hostname, address.port), SECONDS) as connection:
            path = f"/api/ws/tasks/{task_id}?last_id={last_id}"
            key = base64.b64encode(os.urandom(16)).decode()
            lines = [f"GET {path} HTTP/1.1", f"Host: {address.netloc}", "Upgrade: websocket"]
            lines += ["Connection: Upgrade", "Sec-WebSocket-Version: 13"]
            lines += [f"Sec-WebSocket-Key: {key}"]
            lines += [f"{name}: {value}" for name, value in self.headers.items()]
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            file = connection.makefile("rb")
            status = int(file.readline().split()[1])
            while file.readline().strip():
                pass
            closed = []
            events = up_to(message, frames(connection, file, closed))
            return {"status": status, "events": events, "closed": closed}

    def open(self, path, headers, body=None):
        request = urllib.request.Request(self.url + path, body, {**self.headers, **headers})
        return urllib.request.urlopen(request, timeout=SECONDS)


def up_to(message, events):
    taken = []
    for event in events:
        taken.append(event)
        if message and event["data"].get("message") == message:
            break
    return taken


def blocks(answer):
    fields = {}
    for line in answer:
        name, mark, value = line.decode().rstrip("\n").partition(": ")
        if mark:
            fields[name] = value
        elif fields:
            data = json.loads(fields["data"])
            yield {"id": fields.get("id"), "type": fields["event"], "data": data}
            fields = {}


def frames(connection, file, closed):
    while True:
        first, size = file.read(2)
        if size == 126:
            (size,) = struct.unpack("!H", file.read(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", file.read(8))
        content = file.read(size)
        kind = first & 15
        if kind == TEXT:
            yield json.loads(content)
        elif kind in (PING, CLOSE):
            reply = PONG if kind == PING else CLOSE
            mask = os.urandom(4)
            masked = bytes(one ^ mask[at % 4] for at, one in enumerate(content))
            connection.sendall(bytes([128 | reply, 128 | size]) + mask + masked)
            if kind == CLOSE:
                closed.append(struct.unpack("!H", content[:2])[0])
                return


def main():
    client = Client(*sys.argv[1:3])
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(client, name)(*arguments)), flush=True)


if __name__ == "__main__":
    main()
