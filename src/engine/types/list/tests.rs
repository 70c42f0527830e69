//! A list against a model, and against what its rows make of an empty one.

use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_oneof, proptest};

use crate::engine::effect::{self, Effect, Row};
use crate::engine::log::Edit;
use crate::engine::log::RowLog;
use crate::engine::rows::{BadRow, Rows};
use crate::engine::types::list::node::{Node, ROW_MAX, put, row_key};
use crate::engine::types::list::{End, List};
use crate::engine::types::packed::Item;
use crate::engine::{Engine, Scope};

/// A list in an engine, what its effects make of an empty list, and a model.
struct Trio {
    engine: Engine,
    replayed: List,
    model: Vec<Vec<u8>>,
    rows_logged: usize,
}

impl Trio {
    fn new() -> Trio {
        Trio { engine: Engine::new(true), replayed: List::default(), model: Vec::new(), rows_logged: 0 }
    }

    fn edit<R>(&mut self, run: impl FnOnce(&mut List, &mut RowLog<'_>) -> R) -> R {
        let result = self.engine.write(0, 0, Scope::Keys(&[b"list"]), |keys| {
            let Edit { value, mut log, .. } = keys.edit_or_new::<List>(b"list").unwrap();
            run(value, &mut log)
        });
        for (_, bytes) in self.engine.cut().shards {
            let mut bytes = &*bytes;
            while !bytes.is_empty() {
                let Effect::Change { rows, .. } = effect::read(&mut bytes).unwrap() else { panic!("only changes are made") };
                for row in rows {
                    self.rows_logged += 1;
                    match row {
                        Row::Put(element, bytes) => self.replayed.put_row(element, bytes).unwrap(),
                        Row::Remove(element) => self.replayed.remove_row(element).unwrap(),
                    }
                }
            }
        }
        result
    }

    fn check(&mut self) {
        let (replayed, model) = (std::mem::take(&mut self.replayed), self.model.clone());
        let whole = self.edit(|list, _| {
            assert!(elements(list) == model, "{:?} for {:?}", short(&elements(list)), short(&model));
            assert_eq!(list.len(), model.len());
            assert!(rows(list) == rows(&replayed));
            assert_eq!(replayed.len(), model.len());
            for (index, bytes) in model.iter().enumerate() {
                assert!(list.get(index).unwrap() == **bytes);
                assert!(replayed.get(index).unwrap() == **bytes);
            }
            sound(list);
            sound(&replayed);
            let mut rebuilt = List::default();
            list.each_row(&mut |element, bytes| rebuilt.put_row(element, bytes).unwrap());
            sound(&rebuilt);
            assert!(rows(list) == rows(&rebuilt));
            rebuilt
        });
        assert_eq!(whole.len(), model.len());
        self.replayed = replayed;
    }
}

/// Elements that can be read when a test fails.
fn short(elements: &[Vec<u8>]) -> Vec<String> {
    elements.iter().map(|bytes| format!("{}x{}", bytes.len(), char::from(bytes[0]))).collect()
}

fn elements(list: &List) -> Vec<Vec<u8>> {
    list.iter().map(|item| item.to_vec()).collect()
}

fn rows(list: &List) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    list.each_row(&mut |element, bytes| rows.push((element.to_vec(), bytes.to_vec())));
    assert!(rows.is_sorted_by(|one, other| one.0 < other.0));
    rows
}

fn sound(list: &List) {
    assert!(list.nodes.iter().all(|node| !node.packed.is_empty()));
    assert_eq!(list.nodes.iter().map(Node::len).sum::<usize>(), list.len);
}

#[derive(Debug, Clone)]
enum Step {
    Push(bool, Vec<u8>),
    Pop(bool),
    Insert(usize, Vec<u8>),
    InsertMany(usize, usize),
    Set(usize, Vec<u8>),
    RemoveRange(usize, usize),
    RemoveEqual(Vec<u8>, usize, bool),
    Range(usize, usize),
}

fn element() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (0..4u8).prop_map(|n| vec![b'a' + n; 700]),
        4 => (0..30i64).prop_map(|n| (n * 37 - 300).to_string().into_bytes()),
        1 => (0..3usize).prop_map(|n| vec![b'x'; 7000 + n * 1000]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<bool>(), element()).prop_map(|(left, bytes)| Step::Push(left, bytes)),
        2 => any::<bool>().prop_map(Step::Pop),
        3 => (any::<usize>(), element()).prop_map(|(at, bytes)| Step::Insert(at, bytes)),
        2 => (any::<usize>(), 0usize..60).prop_map(|(at, count)| Step::InsertMany(at, count)),
        2 => (any::<usize>(), element()).prop_map(|(at, bytes)| Step::Set(at, bytes)),
        1 => (any::<usize>(), 0usize..10).prop_map(|(at, count)| Step::RemoveRange(at, count)),
        1 => (element(), 0usize..4, any::<bool>()).prop_map(|(bytes, count, left)| Step::RemoveEqual(bytes, count, left)),
        1 => (any::<usize>(), 0usize..100).prop_map(|(at, count)| Step::Range(at, count)),
    ]
}

fn end(is_left: bool) -> End {
    if is_left { End::Left } else { End::Right }
}

fn run(trio: &mut Trio, step: Step) {
    let len = trio.model.len();
    match step {
        Step::Push(left, bytes) => {
            trio.edit(|list, log| list.push(end(left), &bytes, log));
            trio.model.insert(if left { 0 } else { len }, bytes);
        }
        Step::Pop(left) if len > 0 => {
            let expected = trio.model.remove(if left { 0 } else { len - 1 });
            trio.edit(|list, log| {
                assert!(list.peek(end(left)).unwrap() == *expected);
                list.drop_one(end(left), log);
            });
        }
        Step::Insert(at, bytes) => {
            trio.edit(|list, log| list.insert(at % (len + 1), &bytes, log));
            trio.model.insert(at % (len + 1), bytes);
        }
        Step::InsertMany(at, count) => {
            for n in 0..count {
                let bytes = vec![b'0' + (n % 10) as u8; 500];
                trio.edit(|list, log| list.insert(at % (len + 1), &bytes, log));
                trio.model.insert(at % (len + 1), bytes);
            }
        }
        Step::Set(at, bytes) if len > 0 => {
            trio.edit(|list, log| list.set(at % len, &bytes, log));
            trio.model[at % len] = bytes;
        }
        Step::RemoveRange(at, count) if len > 0 => {
            trio.edit(|list, log| list.remove_range(at % len, count, log));
            trio.model.drain(at % len..(at % len + count).min(len));
        }
        Step::RemoveEqual(bytes, count, left) => {
            let mut found: Vec<usize> = (0..len).filter(|&index| trio.model[index] == bytes).collect();
            if !left {
                found.reverse();
            }
            found.truncate(count);
            found.sort();
            found.iter().rev().for_each(|&index| drop(trio.model.remove(index)));
            assert_eq!(trio.edit(|list, log| list.remove_equal(&bytes, count, end(left), log)), found.len());
        }
        Step::Range(at, count) => {
            let (from, to) = (at % (len + 1), (at % (len + 1) + count).min(len));
            let found = trio.edit(|list, _| list.range(from, count).map(|item| item.to_vec()).collect::<Vec<_>>());
            assert!(found == trio.model[from..to]);
        }
        Step::Pop(_) | Step::Set(..) | Step::RemoveRange(..) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn does_what_a_vec_does_and_replays_to_the_same(steps in prop::collection::vec(step(), 0..60)) {
        let mut trio = Trio::new();
        for step in steps {
            run(&mut trio, step);
            trio.check();
        }
    }
}

#[test]
fn a_change_in_the_middle_of_a_long_list_is_some_rows() {
    let mut trio = Trio::new();
    for n in 0..20_000 {
        run(&mut trio, Step::Push(n % 2 == 0, format!("element:{n:08}").into_bytes()));
    }
    trio.rows_logged = 0;
    run(&mut trio, Step::Insert(10_000, b"new".to_vec()));
    run(&mut trio, Step::RemoveEqual(b"new".to_vec(), 1, true));
    run(&mut trio, Step::Set(9_000, b"other".to_vec()));
    run(&mut trio, Step::RemoveRange(5_000, 1));
    assert!(trio.rows_logged < 1_000, "{}", trio.rows_logged);
    trio.check();
}

#[test]
fn a_long_list_takes_little_more_than_its_bytes() {
    let list: List = (0..100_000).map(|n| format!("element:{n:08}")).collect();
    let bytes = 100_000 * (16 + 2);
    assert!(list.memory_bytes() < bytes + bytes / 50, "{} for {bytes}", list.memory_bytes());
}

#[test]
fn a_row_of_other_length_is_refused() {
    assert_eq!(List::default().put_row(b"1", b""), Err(BadRow::Bytes));
    assert_eq!(List::default().put_row(&row_key(i64::MAX), b""), Err(BadRow::Bytes));
}

#[test]
fn row_numbers_far_out_are_given_anew() {
    let mut trio = Trio::new();
    for row in [ROW_MAX, -ROW_MAX] {
        trio.edit(|list, log| {
            list.put_row(&row_key(row), b"far").unwrap();
            put(log, row, Item::Bytes(b"far"));
        });
    }
    trio.model = vec![b"far".to_vec(), b"far".to_vec()];
    for left in [true, false] {
        run(&mut trio, Step::Push(left, b"next".to_vec()));
        trio.check();
    }
    assert!(trio.replayed.nodes.iter().all(|node| node.row.abs() < ROW_MAX));
}
