"""Workspaces on a real server: who is there, the shared context, streams."""

import asyncio
import unittest

from flux_peers import FluxError

from base import ServerTest
from servers import until


async def letters(text):
    for letter in text:
        yield letter


class WorkspaceTest(ServerTest):
    async def test_peers_see_each_other_come_and_go(self):
        first = await self.peer("first")
        events = self.heard(first, "peer:joined", "peer:left")
        self.assertEqual([peer.name for peer in await first.join(self.ws)], ["first"])
        second, third = await self.peer("second"), await self.peer("third")
        await second.join(self.ws)
        self.assertEqual({peer.name for peer in await third.join(self.ws)}, {"first", "second", "third"})
        [peer] = [peer for peer in await first.peers(self.ws) if peer.name == "third"]
        self.assertEqual((peer.id, peer.workspaces, peer.capabilities), (third.id, [self.ws], []))
        self.assertGreater(peer.started_at, 1_600_000_000_000)
        await second.leave(self.ws)
        await third.stop()
        await until(lambda: len(events) == 4)
        told = [(event.type, event.workspace, event.peer_name, event.peer_id) for event in events]
        self.assertEqual(
            told,
            [
                ("peer:joined", self.ws, "second", second.id),
                ("peer:joined", self.ws, "third", third.id),
                ("peer:left", self.ws, "second", second.id),
                ("peer:left", self.ws, "third", third.id),
            ],
        )
        self.assertEqual([peer.name for peer in await first.peers(self.ws)], ["first"])
        self.assertIn("second", [peer.name for peer in await first.peers()])

    async def test_who_left_hears_nothing_more(self):
        first, second = await self.peer("first", join=self.ws), await self.peer("second", join=self.ws)
        events = self.heard(first, "ctx:updated")
        await second.ctx.set(self.ws, "a", 1)
        await until(lambda: len(events) == 1)
        await first.leave(self.ws)
        await second.ctx.set(self.ws, "a", 2)
        await first.peers()
        self.assertEqual(len(events), 1)

    async def test_peer_without_a_name_is_called_by_its_id(self):
        peer = await self.peer(None)
        self.assertEqual(peer.name, peer.id[:8])

    async def test_bad_names_are_refused_with_the_reason(self):
        peer = await self.peer()
        for name in ("", "a:b", "x" * 300, "line\nbreak"):
            with self.assertRaisesRegex(FluxError, "workspace name"):
                await peer.join(name)
        await peer.join(self.ws)

    async def test_coroutines_may_listen_and_raise(self):
        first, second = await self.peer("first", join=self.ws), await self.peer("second", join=self.ws)
        keys = []

        @first.on("ctx:updated")
        async def listen(event):
            keys.append(event.key)
            raise ValueError("a mistake")

        with self.assertLogs("flux_peers", "ERROR"):
            await second.ctx.set(self.ws, "a", 1)
            await second.ctx.set(self.ws, "b", 1)
            await until(lambda: keys == ["a", "b"])
        first.off("ctx:updated", listen)
        await second.ctx.set(self.ws, "c", 1)
        await first.ctx.get(self.ws, "c")
        self.assertEqual(keys, ["a", "b"])


class ContextTest(ServerTest):
    async def test_values_are_shared(self):
        first, second = await self.peer("first", join=self.ws), await self.peer("second", join=self.ws)
        events = self.heard(second, "ctx:updated")
        for key, value in {"text": "plain", "json": {"a": [1, None, "ü"]}, "number": 1.5, "none": None}.items():
            version = await first.ctx.set(self.ws, key, value)
            self.assertEqual(await second.ctx.get(self.ws, key), value)
            self.assertEqual(await second.ctx.get(self.ws, key, with_version=True), (value, version))
            await until(lambda: events)
            event = events.pop()
            self.assertEqual((event.key, event.data, event.version, event.peer_name), (key, value, version, "first"))
        self.assertEqual(set(await second.ctx.keys(self.ws)), {"text", "json", "number", "none"})
        self.assertIsNone(await second.ctx.get(self.ws, "nothing"))
        self.assertIsNone(await second.ctx.get(self.ws, "nothing", with_version=True))

    async def test_deleting_is_told(self):
        first, second = await self.peer("first", join=self.ws), await self.peer("second", join=self.ws)
        await first.ctx.set(self.ws, "a", 1)
        events = self.heard(second, "ctx:updated")
        self.assertTrue(await first.ctx.del_(self.ws, "a"))
        self.assertFalse(await first.ctx.del_(self.ws, "a"))
        await until(lambda: [(event.key, event.deleted) for event in events if event.deleted] == [("a", True)])
        self.assertEqual(await second.ctx.keys(self.ws), [])

    async def test_version_that_is_not_there_is_a_conflict(self):
        peer = await self.peer(join=self.ws)
        version = await peer.ctx.set(self.ws, "a", 1, if_version=0)
        newer = await peer.ctx.set(self.ws, "a", 2, if_version=version)
        self.assertGreater(newer, version)
        for wrong in (0, version):
            with self.assertRaises(FluxError) as failed:
                await peer.ctx.set(self.ws, "a", 3, if_version=wrong)
            self.assertEqual((failed.exception.code, failed.exception.version), ("CONFLICT", newer))
        with self.assertRaises(FluxError):
            await peer.ctx.del_(self.ws, "a", if_version=version)
        self.assertTrue(await peer.ctx.del_(self.ws, "a", if_version=newer))

    async def test_updates_of_many_are_all_counted(self):
        peers = [await self.peer(f"p{number}", join=self.ws) for number in range(4)]

        async def count(peer):
            for _ in range(10):
                await peer.ctx.update(self.ws, "sum", lambda value: (value or 0) + 1)

        await asyncio.gather(*map(count, peers))
        self.assertEqual(await peers[0].ctx.get(self.ws, "sum"), 40)

    async def test_history_is_newest_first(self):
        peer = await self.peer(join=self.ws)
        versions = [await peer.ctx.set(self.ws, "a", value) for value in ("one", {"two": 2}, 3)]
        changes = await peer.ctx.history(self.ws, "a")
        self.assertEqual([(change.version, change.value) for change in changes], list(zip(versions, ["one", {"two": 2}, 3]))[::-1])
        self.assertEqual(changes[0].peer_id, peer.id)
        self.assertEqual(len(await peer.ctx.history(self.ws, "a", count=2)), 2)

    async def test_value_with_a_ttl_goes_and_is_told(self):
        first, second = await self.peer("first", join=self.ws), await self.peer("second", join=self.ws)
        events = self.heard(second, "ctx:updated")
        await first.ctx.set(self.ws, "a", 1, ttl=0.1)
        await until(lambda: any(event.deleted for event in events))
        self.assertIsNone(await second.ctx.get(self.ws, "a"))
        self.assertEqual(await second.ctx.keys(self.ws), [])


class StreamTest(ServerTest):
    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.writer = await self.peer("writer", join=self.ws)
        self.reader = await self.peer("reader", join=self.ws)
        self.got, self.ended = [], asyncio.Event()

    def follow(self, reader=None):
        return (reader or self.reader).on_stream(self.writer.id, "s", self.got.append, self.ended.set)

    async def finish(self):
        await asyncio.wait_for(self.ended.wait(), 30)

    async def test_follower_gets_every_chunk_in_order(self):
        self.follow()
        events = self.heard(self.reader, "stream:data", "stream:end")
        self.assertEqual(await self.writer.stream(self.ws, "s", letters("abcdef")), 6)
        await self.finish()
        self.assertEqual("".join(self.got), "abcdef")
        await until(lambda: len(events) == 7)
        self.assertEqual([(event.key, event.data) for event in events[:6]], [("s", letter) for letter in "abcdef"])
        self.assertEqual((events[6].type, events[6].key, events[6].peer_id), ("stream:end", "s", self.writer.id))

    async def test_late_follower_gets_what_was_before(self):
        go = asyncio.Event()

        async def chunks():
            for letter in "abc":
                yield letter
            await go.wait()
            for letter in "def":
                yield letter

        writing = asyncio.create_task(self.writer.stream(self.ws, "s", chunks()))
        self.follow()
        await until(lambda: len(self.got) == 3)
        late, got = await self.peer("late", join=self.ws), []
        late.on_stream(self.writer.id, "s", got.append)
        await until(lambda: got == ["a", "b", "c"])
        go.set()
        await writing
        await self.finish()
        await until(lambda: got == list("abcdef"))
        self.assertEqual(self.got, got)

    async def test_follower_may_join_afterwards(self):
        await self.writer.stream(self.ws, "s", letters("abc"))
        late = await self.peer("late")
        self.follow(late)
        await late.join(self.ws)
        await self.finish()
        self.assertEqual("".join(self.got), "abc")

    async def test_slow_follower_is_told_what_it_missed(self):
        seen = []

        async def slow(chunk, about):
            seen.append((chunk, about.seq, about.missed))
            if about.seq == 1:
                await go.wait()

        go = asyncio.Event()
        self.reader.on_stream(self.writer.id, "s", slow, self.ended.set)

        async def chunks():
            yield "1"
            await until(lambda: seen)
            for number in range(2, 2502):
                yield str(number)

        await self.writer.stream(self.ws, "s", chunks())
        go.set()
        await self.finish()
        self.assertEqual([chunk for chunk, _, _ in seen], [str(seq) for _, seq, _ in seen])
        self.assertEqual(seen[-1][1], 2501)
        self.assertEqual(len(seen) + sum(missed for _, _, missed in seen), 2501)

    async def test_values_that_are_not_text_are_sent_as_json(self):
        self.follow()
        await self.writer.stream(self.ws, "s", [{"a": 1}, 2])
        await self.finish()
        self.assertEqual(self.got, ['{"a":1}', "2"])

    async def test_source_that_raises_breaks_the_stream_off_and_readers_see_it(self):
        async def broken():
            yield "a"
            raise ValueError("the model broke")

        ends = []
        events = self.heard(self.reader, "stream:end")
        self.reader.on_stream(self.writer.id, "s", self.got.append, ends.append)
        with self.assertRaises(ValueError):
            await self.writer.stream(self.ws, "s", broken())
        await until(lambda: ends and events)
        self.assertEqual((self.got, events[0].error), (["a"], "the model broke"))
        self.assertEqual((ends[0].error.code, str(ends[0].error), ends[0].workspace), ("FAILED", "the model broke", self.ws))
        # The next one under its name is whole.
        await self.writer.stream(self.ws, "s", letters("b"))
        await until(lambda: len(ends) == 2)
        self.assertIsNone(ends[1].error)
        self.assertIsNone(events[1].error)

    async def test_second_stream_of_the_same_name_is_followed(self):
        self.follow()
        for text in ("abc", "def"):
            await self.writer.stream(self.ws, "s", letters(text))
            await self.finish()
            self.ended.clear()
        await until(lambda: "".join(self.got) == "abcdef")

    async def test_who_stopped_following_gets_no_more(self):
        end = self.follow()
        await self.writer.stream(self.ws, "s", letters("a"))
        await self.finish()
        end()
        await self.writer.stream(self.ws, "s", letters("b"))
        await self.reader.peers()
        self.assertEqual(self.got, ["a"])


if __name__ == "__main__":
    unittest.main()
