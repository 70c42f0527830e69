"""A language model's tokens, live: one peer generates (the tokens are made up), another calls it and prints as they come.
A third joins late and still reads the whole transcript.

    flux serve --data ./state
    python examples/python/tokens.py
"""

import asyncio
import sys

from flux_peers import Call, Flux

TEXT = "Push what happens, append it to a log, and derive every state from that."


async def generate(payload: dict, call: Call):
    """A capability that answers in chunks. When its caller goes away, it is cancelled."""
    for word in TEXT.split():
        await asyncio.sleep(0.05)
        yield f"{word} "


async def main(url: str) -> None:
    async with Flux(url, name="model") as model, Flux(url, name="agent") as agent:
        await model.expose("generate", generate, schema={"type": "object", "properties": {"prompt": {"type": "string"}}})
        await agent.join("room")

        print("agent calls:  ", end="")

        async def heard():
            async for token in agent.chunks("generate", {"prompt": "what is flux?"}):
                print(token, end="", flush=True)
                yield token

        # What it hears it streams on to everyone in the room.
        await agent.stream("room", "transcript", heard())
        print()

        async with Flux(url, name="late") as late:
            await late.join("room")
            ended = asyncio.Event()
            print("late reads:   ", end="")
            late.on_stream(agent.id, "transcript", lambda token: print(token, end="", flush=True), on_end=ended.set)
            await ended.wait()
            print()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "lux://localhost:6379"))
