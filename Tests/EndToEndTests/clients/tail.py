"""Follows a live tail and prints an entry a line, as JSON; the first line says that it is connected.

usage: tail.py ws://host:port/loki/api/v1/tail?query=… COUNT
"""
import json
import sys

import websocket

connection = websocket.create_connection(sys.argv[1], timeout=120)
print("connected", flush=True)
seen = 0
while seen < int(sys.argv[2]):
    for stream in json.loads(connection.recv())["streams"]:
        for value in stream["values"]:
            print(json.dumps({"labels": stream["stream"], "time": value[0], "line": value[1]}), flush=True)
            seen += 1
connection.close()
