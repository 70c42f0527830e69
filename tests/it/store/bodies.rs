//! What a store promises on any keyspace.

use std::collections::HashMap;
use std::pin::Pin;

use flux::store::{Heard, KeyEvent, Script, Store, Topics};
use redis::streams::{StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands, AsyncTypedCommands, RedisResult, Value, cmd, pipe};

use super::backend::Backend;

type Body = for<'b> fn(&'b Backend) -> Pin<Box<dyn Future<Output = ()> + 'b>>;

/// All of them. Each uses keys of its own.
pub const ALL: &[(&str, Body)] = &[
    ("typed commands", |backend| Box::pin(typed_commands(backend.store()))),
    ("pipelines", |backend| Box::pin(pipelines(backend.store()))),
    ("several keys only within a hash tag", |backend| Box::pin(one_hash_tag(backend.store()))),
    ("transactions", |backend| Box::pin(transactions(backend.store()))),
    ("what lasts has a line", |backend| Box::pin(lasting(backend.store()))),
    ("a wait holds up nobody", |backend| Box::pin(waits(backend))),
    ("a wait that is given up", |backend| Box::pin(given_up(backend))),
    ("streams and groups", |backend| Box::pin(streams(backend))),
    ("messages", |backend| Box::pin(messages(backend.store()))),
    ("slow readers", |backend| Box::pin(slow_reader(backend.store()))),
    ("events at keys", |backend| Box::pin(key_events(backend.store()))),
    ("scripts", |backend| Box::pin(scripts(backend))),
];

async fn typed_commands(mut store: Store) {
    AsyncTypedCommands::set(&mut store, "typed:a", "text").await.unwrap();
    assert_eq!(AsyncTypedCommands::get(&mut store, "typed:a").await.unwrap().as_deref(), Some("text"));
    assert_eq!(AsyncTypedCommands::get(&mut store, "typed:none").await.unwrap(), None);
    assert_eq!(AsyncTypedCommands::incr(&mut store, "typed:n", 5).await.unwrap(), 5);
    AsyncTypedCommands::hset(&mut store, "typed:h", "field", "value").await.unwrap();
    let hash = HashMap::from([("field".to_owned(), "value".to_owned())]);
    assert_eq!(AsyncTypedCommands::hgetall(&mut store, "typed:h").await.unwrap(), hash);
    AsyncTypedCommands::zadd(&mut store, "typed:z", "member", 1.5).await.unwrap();
    assert_eq!(AsyncTypedCommands::zscore(&mut store, "typed:z", "member").await.unwrap(), Some(1.5));
    let bytes = vec![0, 13, 10, 255, b'$'];
    let _: () = AsyncCommands::set(&mut store, "typed:b", &bytes).await.unwrap();
    assert_eq!(AsyncCommands::get::<_, Vec<u8>>(&mut store, "typed:b").await.unwrap(), bytes);
    let wrong: RedisResult<u32> = AsyncCommands::llen(&mut store, "typed:h").await;
    assert_eq!(wrong.unwrap_err().code(), Some("WRONGTYPE"));
    // Clones are the same door, also in other tasks.
    let mut other = store.clone();
    let incremented = tokio::spawn(async move { AsyncTypedCommands::incr(&mut other, "typed:n", 1).await.unwrap() });
    assert_eq!(incremented.await.unwrap(), 6);
}

async fn pipelines(mut store: Store) {
    let mut asked = pipe();
    asked.set("{pipe}a", 1).ignore().incr("{pipe}a", 1).get("{pipe}a").get("{pipe}none");
    let told: (u32, u32, Option<u32>) = asked.query_async(&mut store).await.unwrap();
    assert_eq!(told, (2, 2, None));
    // One that fails says so, and the others are done.
    let mut asked = pipe();
    asked.set("{pipe}text", "text").ignore().incr("{pipe}text", 1).ignore().set("{pipe}after", 1).ignore();
    assert!(asked.exec_async(&mut store).await.is_err());
    assert_eq!(AsyncTypedCommands::get(&mut store, "{pipe}after").await.unwrap().as_deref(), Some("1"));
    let mut long = pipe();
    for number in 0..2000 {
        long.rpush("pipe:long", number);
    }
    let lengths: Vec<u32> = long.query_async(&mut store).await.unwrap();
    assert_eq!(lengths, (1..=2000).collect::<Vec<u32>>());
}

async fn one_hash_tag(mut store: Store) {
    let mut together = pipe();
    together.atomic().set("{tag}a", 1).ignore().set("{tag}b", 2).ignore().mget(&["{tag}a", "{tag}b"]);
    let told: (Vec<u32>,) = together.query_async(&mut store).await.unwrap();
    assert_eq!(told, (vec![1, 2],));
    let mut apart = pipe();
    apart.atomic().set("tag:a", 1).ignore().set("tag:b", 2).ignore();
    let refused = apart.exec_async(&mut store).await.unwrap_err();
    assert_eq!(refused.code(), Some("CROSSSLOT"), "{refused}");
    assert_eq!(AsyncTypedCommands::get(&mut store, "tag:a").await.unwrap(), None);
    let refused = store.transaction::<_, ()>(&["tag:a", "tag:b"], async |_, _| Ok(())).await.unwrap_err();
    assert_eq!(refused.code(), Some("CROSSSLOT"), "{refused}");
}

/// Increments by reading and writing, so that whoever comes in between is only not lost if the transaction says so.
async fn transactions(store: Store) {
    const TIMES: u32 = 25;
    let increment = |store: Store| async move {
        for _ in 0..TIMES {
            let change = async |line: &mut flux::store::Line, pipeline: &mut redis::Pipeline| {
                let before: Option<u32> = AsyncCommands::get(line, "{txn}n").await?;
                tokio::task::yield_now().await;
                pipeline.set("{txn}n", before.unwrap_or(0) + 1).ignore().get("{txn}n");
                Ok(())
            };
            let after: Option<(u32,)> = store.transaction(&["{txn}n"], change).await.unwrap();
            assert!(after.is_some());
        }
    };
    let all = (0..4).map(|_| tokio::task::unconstrained(increment(store.clone())));
    futures_util::future::join_all(all).await;
    let mut reader = store.clone();
    assert_eq!(AsyncTypedCommands::get(&mut reader, "{txn}n").await.unwrap(), Some((4 * TIMES).to_string()));
    let nothing: Option<()> = store.transaction(&["{txn}n"], async |_, _| Ok(())).await.unwrap();
    assert_eq!(nothing, None);
}

async fn lasting(mut store: Store) {
    for words in
        ["SELECT 1", "WATCH a", "MULTI", "SUBSCRIBE c", "MONITOR", "CLIENT REPLY OFF", "CLIENT SETNAME me", "HELLO 2", "QUIT"]
    {
        let mut words = words.split(' ');
        let mut command = cmd(words.next().unwrap());
        for word in words {
            command.arg(word);
        }
        let refused = command.exec_async(&mut store).await.unwrap_err();
        assert!(refused.to_string().contains("not for here"), "{refused}");
    }
    let mut line = store.line().await.unwrap();
    cmd("WATCH").arg("{last}a").exec_async(&mut line).await.unwrap();
    AsyncTypedCommands::set(&mut store, "{last}a", 1).await.unwrap();
    let mut pipeline = pipe();
    let lost: Option<()> = pipeline.atomic().set("{last}a", 2).ignore().query_async(&mut line).await.unwrap();
    assert_eq!(lost, None, "it changed meanwhile");
    assert!(cmd("SUBSCRIBE").arg("c").exec_async(&mut line).await.is_err());
}

async fn waits(backend: &Backend) {
    let mut store = backend.store();
    let mut waiting = store.clone();
    let wait = tokio::spawn(async move {
        let got: Option<(String, String)> = cmd("BLPOP").arg("wait:list").arg(0).query_async(&mut waiting).await.unwrap();
        got
    });
    backend.until_blocked(1).await;
    for number in 0..10 {
        AsyncTypedCommands::set(&mut store, "wait:other", number).await.unwrap();
    }
    AsyncTypedCommands::rpush(&mut store, "wait:list", "element").await.unwrap();
    assert_eq!(wait.await.unwrap(), Some(("wait:list".to_owned(), "element".to_owned())));
    let none: Option<(String, String)> = cmd("BLPOP").arg("wait:list").arg(0.01).query_async(&mut store).await.unwrap();
    assert_eq!(none, None);
}

async fn given_up(backend: &Backend) {
    let mut store = backend.store();
    for _ in 0..3 {
        let mut waiting = store.clone();
        let wait = tokio::spawn(async move { cmd("BLPOP").arg("up:list").arg(0).query_async::<Value>(&mut waiting).await });
        backend.until_blocked(1).await;
        wait.abort();
        assert!(wait.await.unwrap_err().is_cancelled());
        backend.until_blocked(0).await;
    }
    AsyncTypedCommands::rpush(&mut store, "up:list", "element").await.unwrap();
    assert_eq!(AsyncTypedCommands::llen(&mut store, "up:list").await.unwrap(), 1);
}

async fn streams(backend: &Backend) {
    let mut store = backend.store();
    let _: () = cmd("XGROUP").arg(&["CREATE", "jobs", "workers", "$", "MKSTREAM"]).query_async(&mut store).await.unwrap();
    let mut worker = store.clone();
    let taken = tokio::spawn(async move {
        let options = StreamReadOptions::default().group("workers", "one").block(0).count(1);
        let reply: Option<StreamReadReply> =
            AsyncCommands::xread_options(&mut worker, &["jobs"], &[">"], &options).await.unwrap();
        reply.unwrap().keys.remove(0).ids.remove(0)
    });
    backend.until_blocked(1).await;
    let id: String = AsyncCommands::xadd(&mut store, "jobs", "*", &[("what", "compile")]).await.unwrap();
    let entry = taken.await.unwrap();
    assert_eq!((entry.id.as_str(), entry.get::<String>("what").as_deref()), (&*id, Some("compile")));
    // What was taken is pending until it is done: the list of those is the lease.
    let claimed: Value = cmd("XAUTOCLAIM").arg(&["jobs", "workers", "two", "0", "0"]).query_async(&mut store).await.unwrap();
    assert!(format!("{claimed:?}").contains("compile"), "{claimed:?}");
    let done: u32 = AsyncCommands::xack(&mut store, "jobs", "workers", &[&id]).await.unwrap();
    assert_eq!(done, 1);
    // Without BLOCK it waits for nobody.
    let options = StreamReadOptions::default().count(1);
    let none: Option<StreamReadReply> = AsyncCommands::xread_options(&mut store, &["jobs"], &["$"], &options).await.unwrap();
    assert!(none.is_none());
}

async fn messages(mut store: Store) {
    let mut news = store.listen(Topics::channels(["news", "more"])).await.unwrap();
    let mut all = store.listen(Topics::patterns(["n?ws", "other*"])).await.unwrap();
    for number in 0..100 {
        AsyncTypedCommands::publish(&mut store, "news", number).await.unwrap();
    }
    AsyncTypedCommands::publish(&mut store, "more", "\r\n*1").await.unwrap();
    for number in 0..100 {
        for listener in [&mut news, &mut all] {
            let Some(Heard::Item(message)) = listener.next().await else { panic!("nothing was lost") };
            assert_eq!((&message.channel[..], &message.payload[..]), (&b"news"[..], number.to_string().as_bytes()));
        }
    }
    let Some(Heard::Item(message)) = news.next().await else { panic!("nothing was lost") };
    assert_eq!((&message.channel[..], &message.payload[..]), (&b"more"[..], &b"\r\n*1"[..]));
    drop((news, all));
}

async fn slow_reader(mut store: Store) {
    const COUNT: u64 = 1000;
    let mut slow = store.listen(Topics::channels(["flood"]).mailbox(8 * 1024)).await.unwrap();
    for _ in 0..COUNT {
        AsyncTypedCommands::publish(&mut store, "flood", "m".repeat(100)).await.unwrap();
    }
    let (mut heard, mut lost) = (0, 0);
    while heard + lost < COUNT {
        match slow.next().await.unwrap() {
            Heard::Item(_) => heard += 1,
            Heard::Lost(Some(count)) => lost += count,
            Heard::Lost(None) => panic!("the connection is well"),
        }
    }
    assert!(heard < 200 && heard > 10 && lost > 800, "{heard} were kept, {lost} were not");
    AsyncTypedCommands::publish(&mut store, "flood", "after").await.unwrap();
    let Some(Heard::Item(message)) = slow.next().await else { panic!("there is room again") };
    assert_eq!(message.payload, b"after");
}

async fn key_events(mut store: Store) {
    let mut events = store.key_events("seen:*").await.unwrap();
    let mut heard = Vec::new();
    // Of different slots, so that several masters tell.
    for number in 0..10 {
        AsyncTypedCommands::set(&mut store, format!("seen:{number}"), number).await.unwrap();
        AsyncTypedCommands::set(&mut store, format!("unseen:{number}"), number).await.unwrap();
        heard.push(events.next().await.unwrap());
    }
    let set = |number: u32| Heard::Item(KeyEvent { key: format!("seen:{number}").into_bytes(), event: "set".to_owned() });
    assert_eq!(heard, (0..10).map(set).collect::<Vec<_>>());
    AsyncTypedCommands::del(&mut store, "seen:1").await.unwrap();
    let Some(Heard::Item(event)) = events.next().await else { panic!("nothing was lost") };
    assert_eq!((&event.key[..], &*event.event), (&b"seen:1"[..], "del"));
}

async fn scripts(backend: &Backend) {
    let store = backend.store();
    let script = Script::new("redis.call('SET', KEYS[1], ARGV[1]) return {KEYS[2], redis.call('GET', KEYS[1])}");
    let ran: (String, u32) = script.run(&store, &["{script}a", "{script}b"], 7).await.unwrap();
    assert_eq!(ran, ("{script}b".to_owned(), 7));
    let again: (String, u32) = script.run(&store, &["{script}a", "{script}b"], 8).await.unwrap();
    assert_eq!(again.1, 8);
}
