"""The Python SDK of MCP against flux, over HTTP and through `flux mcp`, in both lifecycles of the protocol.

Arguments: the RESP port. `FLUX_BIN` is the program.
"""

import asyncio
import json
import os
import sys
import threading

import redis
from mcp import Client, StdioServerParameters

port = int(sys.argv[1])
server = redis.Redis(port=port, decode_responses=True)
http_port = server.config_get("http-port")["http-port"]

SCHEMA = {"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"]}
PEER = {
    "name": "maths",
    "capabilities": [{"name": "add.one", "description": "Adds one", "schema": SCHEMA}, {"name": "hidden"}],
    "workspaces": [],
}


def work() -> None:
    peer = redis.Redis(port=port, decode_responses=True, single_connection_client=True)
    peer.execute_command("FLUX.REGISTER", json.dumps(PEER), "TTL", 60000)
    while True:
        for job in peer.execute_command("FLUX.NEXT") or []:
            a = json.loads(job[2])["a"]
            answer = ("ERROR", "no negative numbers") if a < 0 else ("OK", json.dumps({"sum": a + 1}))
            peer.execute_command("FLUX.REPLY", job[0], *answer)


async def check(target: object, mode: str) -> None:
    async with Client(target, mode=mode) as client:
        tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == ["add_one"], tools
        assert tools[0].description == "Adds one"
        assert tools[0].input_schema == SCHEMA, tools[0].input_schema
        result = await client.call_tool("add_one", {"a": 41})
        assert not result.is_error and result.structured_content == {"sum": 42}, result
        assert json.loads(result.content[0].text) == {"sum": 42}
        result = await client.call_tool("add_one", {"a": -1})
        assert result.is_error and result.content[0].text == "no negative numbers", result
        result = await client.call_tool("add_one", {"a": "one"})
        assert result.is_error and "/a" in result.content[0].text, result


async def main() -> None:
    stdio = StdioServerParameters(command=os.environ["FLUX_BIN"], args=["mcp", "--url", f"redis://127.0.0.1:{port}"])
    for target in (f"http://127.0.0.1:{http_port}/mcp", stdio):
        for mode in ("auto", "legacy"):
            await asyncio.wait_for(check(target, mode), 30)


threading.Thread(target=work, daemon=True).start()
while not server.execute_command("FLUX.CAPABILITIES"):
    pass
asyncio.run(main())
print("the Python SDK of MCP works")
