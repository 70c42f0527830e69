//! Peers, workspaces and their context over HTTP.

use serde_json::Value;

use super::{Door, Worker, ask};
use crate::process::Process;

const DOC: &str = "/workspaces/alpha/ctx/doc/intro.md";

fn json(door: &Door, path: &str) -> Value {
    let (status, body) = door.get(path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn what_there_is_can_be_listed() {
    let door = Door::open(&[]);
    let _worker =
        Worker::start(&door, "alpha", r#"[{"name":"sum","description":"Adds","schema":{"type":"object"}}]"#, |_| vec![]);
    let _other = Worker::start(&door, "beta", r#"[{"name":"product"}]"#, |_| vec![]);
    let names = |path: &str| -> Vec<String> {
        let list = json(&door, path);
        let mut names: Vec<String> = list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().into()).collect();
        names.sort();
        names
    };
    assert_eq!(names("/peers"), ["alpha", "beta"]);
    assert_eq!(names("/peers?workspace=beta"), ["beta"]);
    assert_eq!(names("/peers?capability=sum"), ["alpha"]);
    assert_eq!(names("/capabilities"), ["product", "sum"]);
    assert_eq!(json(&door, "/capabilities/sum")["description"], "Adds");
    assert_eq!(door.get("/capabilities/nothing").0, 404);
    assert_eq!(names("/workspaces"), ["alpha", "beta"]);
    assert_eq!(door.ask("PUT", DOC, &[], "text").status, 200);
    let alpha = json(&door, "/workspaces/alpha");
    assert_eq!(alpha["peers"][0]["name"], "alpha");
    assert!(alpha["context"]["doc/intro.md"].is_u64(), "{alpha}");
    assert_eq!(json(&door, "/status")["peers"], 2);
    assert_eq!(door.get("/peers?workspaces=x").0, 400);
}

#[test]
fn values_have_versions_that_changes_may_depend_on() {
    let door = Door::open(&[]);
    let put = |headers: &[(&str, &str)], body: &str| door.ask("PUT", DOC, headers, body);
    assert_eq!(door.get(DOC).0, 404);
    let created = put(&[("If-None-Match", "*")], "{\"text\":1}");
    assert_eq!(created.status, 200, "{created:?}");
    assert_eq!(put(&[("If-None-Match", "*")], "again").status, 412);
    let first = created.header("etag").unwrap().to_owned();
    let found = door.ask("GET", DOC, &[], "");
    assert_eq!((found.status, found.body.as_str(), found.header("etag")), (200, "{\"text\":1}", Some(&*first)));
    assert_eq!(found.header("content-type"), Some("application/json"));
    assert_eq!(door.ask("GET", DOC, &[("If-None-Match", &first)], "").status, 304);
    let changed = put(&[("If-Match", &first)], "plain text");
    assert_eq!(changed.status, 200, "{changed:?}");
    let second = changed.header("etag").unwrap().to_owned();
    assert_ne!(first, second);
    assert_eq!(put(&[("If-Match", &first)], "too late").status, 412);
    assert_eq!(put(&[("If-Match", "*")], "whatever it is").status, 200);
    assert_eq!(put(&[("If-Match", "\"not ours\"")], "x").status, 412);
    assert_eq!(put(&[("If-Match", &first), ("If-None-Match", "*")], "x").status, 400);
    assert!(door.ask("GET", DOC, &[], "").header("content-type").unwrap().starts_with("text/plain"));
    assert_eq!(door.ask("DELETE", DOC, &[("If-Match", &second)], "").status, 412);
    assert_eq!(door.ask("DELETE", DOC, &[], "").status, 204);
    assert_eq!(door.ask("DELETE", DOC, &[], "").status, 404);
    assert_eq!(put(&[("If-Match", "*")], "nothing to match").status, 412);
}

#[test]
fn names_and_sizes_are_checked() {
    let door = Door::open(&[("peer-payload-limit", "1kb")]);
    assert_eq!(door.ask("PUT", DOC, &[], &"x".repeat(1024)).status, 200);
    let answer = door.ask("PUT", DOC, &[], &"x".repeat(1025));
    assert!(answer.status == 413 && answer.body.contains("peer-payload-limit"), "{answer:?}");
    let answer = door.ask("PUT", "/workspaces/a%2Ab/ctx/key", &[], "x");
    assert!(answer.status == 400 && answer.body.contains("workspace"), "{answer:?}");
    assert_eq!(door.ask("PUT", "/workspaces/ws/ctx/a%0Ab", &[], "x").status, 400);
    assert_eq!(door.ask("PUT", &format!("{DOC}?ttl=0"), &[], "x").status, 400);
    assert_eq!(door.ask("PUT", &format!("{DOC}?ttl=60000"), &[], "x").status, 200);
}

#[test]
fn changes_wait_for_the_disk_and_hold_nobody_up() {
    let server = Process::flux(&["--appendfsync", "always"]);
    let mut client = redis::Client::open(format!("redis://127.0.0.1:{}", server.port())).unwrap().get_connection().unwrap();
    let (_, port): (String, u16) = redis::cmd("CONFIG").arg("GET").arg("http-port").query(&mut client).unwrap();
    let address = ([127, 0, 0, 1], port).into();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            scope.spawn(move || {
                for number in 0..10 {
                    let answer = ask(address, "PUT", &format!("/workspaces/alpha/ctx/{writer}"), &[], &number.to_string());
                    assert_eq!(answer.status, 200, "{answer:?}");
                }
            });
        }
        assert_eq!(ask(address, "GET", "/health", &[], "").status, 200);
    });
    assert_eq!(ask(address, "GET", "/workspaces/alpha/ctx/7", &[], "").body, "9");
}
