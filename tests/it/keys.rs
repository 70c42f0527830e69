//! What the command table says of keys, where they are and whether they are read or written, against what a redis-server says.

use std::collections::BTreeMap;

use flux::commands::marks::Mark;

use crate::process::{Connection, Process, Reply};

/// What a server tells of a command; None if it does not know it. Remarks on keys are left out: they are prose of Redis.
fn told(server: &mut Connection, name: &str) -> Option<Vec<Reply>> {
    let Reply::Many(_, mut told) = server.call(&["COMMAND", "INFO", name]).unwrap() else { panic!("a list") };
    match told.remove(0) {
        Reply::Many(_, fields) => Some(fields.into_iter().map(without_notes).collect()),
        _ => None,
    }
}

fn without_notes(reply: Reply) -> Reply {
    let Reply::Many(kind, mut parts) = reply else { return reply };
    if let Some(at) = parts.iter().position(|part| *part == Reply::Bulk('$', b"notes".to_vec())) {
        parts.drain(at..at + 2);
    }
    Reply::Many(kind, parts.into_iter().map(without_notes).collect())
}

#[test]
fn keys_are_where_redis_says_and_read_or_written_as_it_says() {
    let Some(redis) = Process::redis(&[]) else { return };
    let flux = Process::flux_in_memory(&[]);
    let (mut ours, mut theirs) = (flux.connect(), redis.connect());
    let Reply::Many(_, names) = theirs.call(&["COMMAND", "LIST"]).unwrap() else { panic!("a list") };
    let (mut wrong, mut count) = (Vec::new(), 0);
    for name in names {
        let Reply::Bulk(_, name) = name else { panic!("a name") };
        let name = String::from_utf8(name).unwrap();
        let Some(here) = told(&mut ours, &name) else { continue };
        let there = told(&mut theirs, &name).expect("it is in the list");
        count += 1;
        // First, last and step, and the specifications.
        for at in [3, 4, 5, 8] {
            if here[at] != there[at] {
                wrong.push(format!("{name}:\n   flux:  {:?}\n   Redis: {:?}", here[at], there[at]));
            }
        }
    }
    println!("{count} commands were compared");
    assert!(count > 200 && wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_command_that_writes_keys_writes_one_of_those_it_names() {
    let table = flux::node::table();
    let mut odd = BTreeMap::new();
    for (number, row) in table.rows().flat_map(|row| std::iter::once(row).chain(row.subcommands)).enumerate() {
        let marks = table.marks(number);
        let is_fixed = matches!(row.keys, flux::commands::Keys::None | flux::commands::Keys::Any);
        let writes = marks.iter().any(Mark::writes);
        if !is_fixed && row.is_write() != writes {
            odd.insert(table.full_name(number).to_owned(), marks.len());
        }
    }
    // It notes in the group what it gave, and is marked as a read, as in Redis.
    assert_eq!(odd.remove("xreadgroup"), Some(1));
    // What a script writes is known once it runs.
    assert_eq!([odd.remove("eval"), odd.remove("evalsha"), odd.remove("fcall")], [Some(1); 3]);
    assert!(odd.is_empty(), "{odd:?}");
}
