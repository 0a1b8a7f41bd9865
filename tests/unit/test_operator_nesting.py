"""Documents nested as deep as the API server takes them: one of them must not keep all others from being read."""

import json
import subprocess
import sys

PROGRAM = """
import json, msgspec, structlog
from nova_api.errors import ConfigError
from nova_operator import logs, main, spec

logs.configure("info")
main.read_deep_documents()
for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
    levels = main.NESTED - 4
    text = b'{"items":[{"spec":{"template":' + opening * levels + b"1" + closing * levels + b"}}]}"
    document = json.loads(text)  # as Kopf reads
    assert msgspec.json.decode(text) == document  # and the operator
    assert msgspec.json.encode(document)
    try:
        spec.read({"kind": "NovaService", **document["items"][0]})
    except ConfigError:
        pass


def endless():
    endless()


try:
    endless()
except RecursionError:
    structlog.get_logger().exception("work failed")
"""


def test_a_document_of_ten_thousand_levels_is_read_and_no_line_of_the_log_is_as_long() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    (line,) = map(json.loads, done.stdout.splitlines())
    assert line["error"].startswith("RecursionError")
    assert len(line["stack"]) == 50
