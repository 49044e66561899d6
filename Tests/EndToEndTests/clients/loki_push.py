"""Logs through python-logging-loki and prints what it logged.

usage: loki_push.py http://host:port COUNT
"""
import json
import logging
import sys

import logging_loki

handler = logging_loki.LokiHandler(url=sys.argv[1] + "/loki/api/v1/push", tags={"app": "py", "zone": "\u00e4 1"}, version="1")
failures = []
handler.handleError = lambda record: failures.append(record.getMessage())
logger = logging.getLogger("shop")
logger.setLevel(logging.DEBUG)
logger.addHandler(handler)
sent = []
for i in range(int(sys.argv[2])):
    line = f"order {i} took {i * 10}ms \u2603 \"quoted\"\nsecond line\t{{}}"
    logger.log(logging.ERROR if i % 4 == 0 else logging.INFO, line, extra={"tags": {"shard": str(i % 2)}})
    sent.append(line)
json.dump({"sent": sent, "failures": failures}, sys.stdout)
