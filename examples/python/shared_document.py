"""Two agents write one document together: a writer drafts paragraphs, an editor improves each as soon as it is there.

    flux serve --data ./state
    python examples/python/shared_document.py

Both run in this program; they could as well run on two machines.
"""

import asyncio
import sys

from flux_peers import Flux

WORKSPACE = "essay"
DRAFTS = ["peers find each other", "they share what they know", "nobody polls"]


async def write(flux: Flux) -> None:
    """Appends each draft to the document, whoever else writes to it meanwhile."""
    for draft in DRAFTS:
        await flux.ctx.update(WORKSPACE, "document", lambda lines, draft=draft: [*(lines or []), draft])
        print(f"writer   wrote    {draft!r}")
        await asyncio.sleep(0.2)


async def edit(flux: Flux, event) -> None:
    """Asks the writer's style guide about each new line."""

    def improve(lines: list[str]) -> list[str]:
        return [line if line.endswith(".") else f"{line.capitalize()}." for line in lines]

    if event.key == "document" and not event.deleted and improve(event.data) != event.data:
        lines = await flux.ctx.update(WORKSPACE, "document", improve)
        print(f"editor   improved {lines[-1]!r}")


async def main(url: str) -> None:
    async with Flux(url, name="writer") as writer, Flux(url, name="editor") as editor:
        editor.on("ctx:updated", lambda event: edit(editor, event))
        writer.on("peer:joined", lambda event: print(f"writer   sees     {event.peer_name} joining"))
        await writer.join(WORKSPACE)
        await editor.join(WORKSPACE)
        await writer.ctx.del_(WORKSPACE, "document")
        await write(writer)
        while not all(line.endswith(".") for line in await writer.ctx.get(WORKSPACE, "document")):
            await asyncio.sleep(0.05)
        print("document", *await writer.ctx.get(WORKSPACE, "document"))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "lux://localhost:6379"))
