"""The routes as schemas/openapi.json has them, against a live server: FLUX_HTTP is its address, which has the peers, workspaces and values that
tests/it/http/openapi.rs makes. The description is checked by openapi-spec-validator, and the server against it by schemathesis, whose examples
are the same whenever it runs."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

from openapi_spec_validator import OpenAPIV31SpecValidator

SERVER = os.environ["FLUX_HTTP"]
KEPT = pathlib.Path(__file__).parents[2] / "schemas" / "openapi.json"
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
]
# These have no end, or speak another protocol within HTTP: tests/it/http has tests of their own for them.
LEFT_OUT = ["/workspaces/{workspace}/events", "/mcp", "/resp"]
# Nobody answers within one millisecond.
SETTINGS = """
[generation]
# Headers may be for someone else on the way.
allow-extra-parameters = false

[[operations]]
include-path = "/call/{capability}"
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", 504]
"""
# What is there: without it, hardly any name that is made up is one of something.
THERE = """
[parameters]
"path.capability" = "echo"
"path.workspace" = "alpha"
"path.key" = "doc/intro.md"
"""


def check(settings: str, examples: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "schemathesis.toml"
        config.write_text(settings + SETTINGS)
        left_out = [word for path in LEFT_OUT for word in ("--exclude-path", path)]
        run = ["--checks", ",".join(CHECKS), "--max-examples", str(examples), "--generation-deterministic"]
        run += ["--phases", "examples,coverage,fuzzing", "--request-timeout", "10", "--workers", "1"]
        run += ["--continue-on-failure", "--no-color", "--warnings", "off", *left_out]
        cli = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", *run, f"{SERVER}/openapi.json"]
        subprocess.run(cli, check=True, cwd=folder)


served = json.load(urllib.request.urlopen(f"{SERVER}/openapi.json"))
assert served == json.loads(KEPT.read_text()), "the server describes other routes than the file"
OpenAPIV31SpecValidator(served).validate()
check("", 20)
check(THERE, 20)
