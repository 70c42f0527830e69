"""What Python's jsonschema says of pairs of a schema and a payload, for tests/it/peers/schema_suite.rs: a line for each."""

import json
import sys

from jsonschema import Draft202012Validator


def say(pair: dict) -> str:
    try:
        return str(Draft202012Validator(pair["schema"]).is_valid(pair["payload"])).lower()
    except BaseException as error:
        # Where the depth ends within a library of its own that is written in Rust, that panics.
        if isinstance(error, RecursionError) or type(error).__name__ == "PanicException":
            return "deep"
        raise


for line in sys.stdin:
    print(say(json.loads(line)))
