"""Follows a task with `httpx-sse`, which does not come back by itself: a loop does."""

import json
import sys
import time

import httpx
from httpx_sse import connect_sse

url, token, task_id = sys.argv[1:]
address = f"{url}/api/tasks/{task_id}"
headers = {"Authorization": f"Bearer {token}"}
retry_seconds, ended = 1.0, False
with httpx.Client(timeout=httpx.Timeout(5, read=60)) as client:
    while not ended:
        try:
            with connect_sse(client, "GET", address, headers=headers) as source:
                for event in source.iter_sse():
                    if event.id:
                        headers["Last-Event-ID"] = event.id
                    if event.retry:
                        retry_seconds = event.retry / 1000
                    data = json.loads(event.data)
                    told = {"message": data.get("message"), "at": data.get("updated_at")}
                    print(json.dumps({"type": event.event, **told}), flush=True)
                    ended = event.event == "finished"
        except httpx.TransportError:
            pass
        if not ended:
            time.sleep(retry_seconds)
print(json.dumps({"type": "closed"}), flush=True)
