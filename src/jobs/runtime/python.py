# Runs a job's script; what a top-level `handler` returns, if there is one, is the job's output.
import json
import os
import runpy
import sys

sys.path.insert(0, os.getcwd())
names = runpy.run_path("job.py", run_name="__main__")
handler = names.get("handler")
if callable(handler):
    with open("payload.json", encoding="utf-8") as file:
        payload = json.load(file)
    output = handler(payload)
    if output is not None:
        with open(os.environ["FLUX_OUTPUT"], "w", encoding="utf-8") as file:
            json.dump(output, file)
