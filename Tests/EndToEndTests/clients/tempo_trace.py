"""Fetches a trace as Grafana does, as protobuf, decodes it with OpenTelemetry's own messages and prints it as JSON.

usage: tempo_trace.py http://host:port/api/v2/traces/ID
"""
import json
import sys

import requests
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

answer = requests.get(sys.argv[1], headers={"Accept": "application/protobuf"})
answer.raise_for_status()
assert answer.headers["Content-Type"] == "application/protobuf", answer.headers
body = answer.content
if "/v2/" in sys.argv[1]:
    # TraceByIDResponse{trace=1, metrics=2, …}: its first field is the trace.
    assert body[0] == 0x0A, body[:8]
    length, shift, at = 0, 0, 1
    while True:
        length |= (body[at] & 0x7F) << shift
        shift += 7
        at += 1
        if body[at - 1] < 0x80:
            break
    body = body[at:at + length]
json.dump(MessageToDict(TracesData.FromString(body)), sys.stdout)
