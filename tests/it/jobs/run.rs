//! Jobs from their submission over HTTP to their end, as processes of this machine.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::ask;
use crate::process::{Process, until};

/// A server that runs jobs.
struct Runs {
    server: Process,
    address: SocketAddr,
}

impl Runs {
    fn on(server: Process) -> Runs {
        let address = ([127, 0, 0, 1], server.http_port()).into();
        Runs { server, address }
    }

    fn new(args: &[&str]) -> Runs {
        Runs::on(Process::flux(&[&["--jobs-process", "yes"], args].concat()))
    }

    fn ask(&self, method: &str, path: &str) -> (u16, Value) {
        let answer = ask(self.address, method, path, &[], "");
        (answer.status, serde_json::from_str(&answer.body).unwrap_or_default())
    }

    fn send(&self, script: Option<&str>, fields: &[(&str, &str)]) -> (u16, Value) {
        let mut body = String::new();
        let mut part = |head: &str, text: &str| {
            body.push_str(&format!("--edge\r\nContent-Disposition: form-data; {head}\r\n\r\n{text}\r\n"));
        };
        if let Some(script) = script {
            part("name=\"script\"; filename=\"worker\"", script);
        }
        fields.iter().for_each(|(name, text)| part(&format!("name=\"{name}\""), text));
        body.push_str("--edge--\r\n");
        let answer = ask(self.address, "POST", "/jobs/submit", &[("Content-Type", "multipart/form-data; boundary=edge")], &body);
        (answer.status, serde_json::from_str(&answer.body).unwrap())
    }

    /// Submits a job; its id.
    fn submit(&self, runtime: &str, script: &str, fields: &[(&str, &str)]) -> String {
        let (status, told) = self.send(Some(script), &[&[("runtime", runtime)], fields].concat());
        assert_eq!((status, &told["success"], &told["status"]), (201, &json!(true), &json!("Scheduled")), "{told}");
        told["jobId"].as_str().unwrap().to_owned()
    }

    fn job(&self, id: &str) -> Value {
        let (status, mut told) = self.ask("GET", &format!("/jobs/{id}"));
        assert_eq!((status, &told["success"]), (200, &json!(true)));
        told["job"].take()
    }

    /// Waits until a job is in this substate.
    fn until(&self, id: &str, substate: &str) -> Value {
        let mut job = Value::Null;
        until(&format!("{id} is {substate}"), || {
            job = self.job(id);
            job["substate"] == substate
        });
        job
    }
}

#[test]
fn scripts_of_all_languages_get_their_payload_and_give_output() {
    let runs = Runs::new(&[]);
    let payload = r#"{"name": "Zoë", "items": [1, 2]}"#;
    let scripts = [
        (
            "bash",
            "#!/bin/bash\necho \"got $PAYLOAD\"; cat payload.json >&2; echo '{\"sum\": 3}' > \"$FLUX_OUTPUT\"",
            json!({"sum": 3}),
        ),
        (
            "python:3.9",
            "import os, json\npayload = json.loads(os.environ['PAYLOAD'])\nprint('got', payload['name'])",
            Value::Null,
        ),
        (
            "python:3.9",
            "def handler(payload):\n    print('got', payload['name'])\n    return {'sum': sum(payload['items'])}",
            json!({"sum": 3}),
        ),
        (
            "node:18",
            "module.exports = async (payload) => { console.log('got', payload.name); return { sum: payload.items[0] + payload.items[1] }; }",
            json!({"sum": 3}),
        ),
        ("node:18", "function handler(payload) { console.log('got', payload.name); return 'text'; }", json!("text")),
    ];
    for (runtime, script, output) in scripts {
        let id = runs.submit(runtime, script, &[("payload", payload), ("name", "a job")]);
        let job = runs.until(&id, "COMPLETED");
        assert_eq!((&job["state"], &job["exitCode"], &job["output"]), (&json!("COMPLETED"), &json!(0), &output), "{job}");
        assert_eq!((&job["name"], &job["payload"]["name"], &job["attempt"]), (&json!("a job"), &json!("Zoë"), &json!(1)));
        assert!(job["logs"].as_str().unwrap().contains("got "), "{job}");
        assert_eq!(job["attempts"][0]["finalStatus"], "COMPLETED");
    }
}

#[test]
fn a_job_that_fails_is_tried_again_and_keeps_what_each_try_wrote() {
    let runs = Runs::new(&[]);
    let script = "echo \"try $FLUX_ATTEMPT\"; exit $((40 + FLUX_ATTEMPT))";
    let id = runs.submit("bash", script, &[("maxRetries", "2"), ("backoff", r#"{"firstMs": 1, "mostMs": 1}"#)]);
    let job = runs.until(&id, "FAILED");
    assert_eq!((&job["state"], &job["exitCode"], &job["attempt"]), (&json!("FAILED"), &json!(42), &json!(2)));
    let tries: Vec<_> = job["attempts"].as_array().unwrap().iter().map(|one| (&one["exitCode"], &one["logs"])).collect();
    assert_eq!(tries, [(&json!(41), &json!("try 1\n")), (&json!(42), &json!("try 2\n"))]);
    let (status, told) = runs.ask("POST", &format!("/jobs/{id}/retry"));
    assert_eq!((status, &told["success"]), (200, &json!(true)), "{told}");
    runs.until(&id, "FAILED");
    assert_eq!(ask(runs.address, "DELETE", &format!("/jobs/{id}"), &[], "").status, 204);
    assert_eq!(runs.ask("GET", &format!("/jobs/{id}")).0, 404);
}

#[test]
fn a_job_that_takes_too_long_or_is_cancelled_is_killed_with_all_it_started() {
    let runs = Runs::new(&[]);
    let folder = TempDir::new().unwrap();
    let started = |name: &str| {
        let file = folder.path().join(name);
        (format!("(while true; do sleep 0.01; touch {0}; done) & echo on; touch {0}; wait", file.display()), file)
    };
    let (script, alive) = started("late");
    let late = runs.submit("bash", &script, &[("timeoutMs", "3000"), ("maxRetries", "1")]);
    let job = runs.until(&late, "TIMED_OUT");
    assert_eq!(
        (&job["state"], &job["error"], &job["logs"]),
        (&json!("FAILED"), &json!("it took longer than 3000 ms"), &json!("on\n"))
    );
    let (script, alive_too) = started("cancelled");
    let cancelled = runs.submit("bash", &script, &[]);
    until("it runs", || alive_too.exists());
    let (status, told) = runs.ask("POST", &format!("/jobs/{cancelled}/cancel"));
    assert_eq!((status, &told["substate"]), (200, &json!("RUNNING")), "{told}");
    let job = runs.until(&cancelled, "CANCELLED");
    assert_eq!((&job["state"], &job["attempts"].as_array().unwrap().len()), (&json!("FAILED"), &1));
    // They are told to end a moment before they have. Another job takes longer than what still ran would take to show itself.
    until("nothing of them runs", || {
        for mark in [&alive, &alive_too] {
            // It may be gone since the last look.
            let _ = std::fs::remove_file(mark);
        }
        let other = runs.submit("bash", "sleep 0.2", &[]);
        runs.until(&other, "COMPLETED");
        !alive.exists() && !alive_too.exists()
    });
}

#[test]
fn what_is_wrong_with_a_job_is_named_with_its_field() {
    let runs = Runs::new(&[]);
    let (status, told) = runs.send(None, &[("runtime", "bash")]);
    assert_eq!((status, &told["error"]), (400, &json!("no file provided")));
    for (name, text) in [("payload", "{broken"), ("runtime", "cobol"), ("maxRetries", "many"), ("color", "red")] {
        let fields = [("runtime", "bash"), (name, text)];
        let (status, told) = runs.send(Some("true"), &fields[usize::from(name == "runtime")..]);
        assert_eq!((status, &told["details"]["field"]), (400, &json!(name)), "{told}");
    }
    let (status, told) = runs.ask("GET", "/jobs/job-none");
    assert_eq!((status, &told["success"], &told["message"]), (404, &json!(false), &json!("job not found")));
    let twice = runs.send(Some("true"), &[("runtime", "bash"), ("runtime", "bash")]);
    assert_eq!(twice.0, 400, "{}", twice.1);
    for (media, body) in [("application/json", "{}"), ("multipart/form-data", ""), ("multipart/form-data; boundary=x", "--y")] {
        assert_eq!(ask(runs.address, "POST", "/jobs/submit", &[("Content-Type", media)], body).status, 400, "{media}");
    }
    let (_, listed) = runs.ask("GET", "/jobs");
    assert_eq!(listed, json!({"success": true, "count": 0, "jobs": []}));
}

#[test]
fn the_same_submission_is_taken_once_for_an_idempotency_key_also_later() {
    let runs = Runs::on(Process::flux(&[]));
    let key = [("idempotencyKey", "order-1")];
    let id = runs.submit("bash", "true", &key);
    let mut other = id.clone();
    // Its time to run is another one, since that is now.
    until("it is a later millisecond", || {
        other = runs.submit("bash", "true", &key);
        runs.job(&id)["createdAt"] != runs.job(&runs.submit("bash", "true", &[]))["createdAt"]
    });
    assert_eq!(other, id);
    let (status, told) = runs.send(Some("false"), &[("runtime", "bash"), key[0]]);
    assert_eq!((status, &told["code"]), (422, &json!("DIFFERS")), "{told}");
}

/// Neither is told with a list.
#[test]
fn long_outputs_and_payloads_come_with_the_job_alone() {
    let runs = Runs::new(&[]);
    let payload = format!("\"{}\"", "p".repeat(200_000));
    let id = runs.submit("bash", "cp payload.json $FLUX_OUTPUT", &[("payload", &payload)]);
    let job = runs.until(&id, "COMPLETED");
    assert_eq!((job["payload"].to_string(), job["output"].to_string()), (payload.clone(), payload));
    let (_, listed) = runs.ask("GET", "/jobs");
    let brief = &listed["jobs"][0];
    assert_eq!(
        (&brief["payload"], &brief["output"], &brief["attempts"][0]["finalStatus"]),
        (&Value::Null, &Value::Null, &json!("COMPLETED"))
    );
    assert!(brief.to_string().len() < 2000, "{brief}");
}

#[test]
fn what_a_job_writes_is_kept_as_it_is_up_to_a_bound_that_is_told() {
    let runs = Runs::new(&[]);
    let id = runs.submit("bash", r#"printf 'a\0b\377\033[31m'; head -c 3000000 /dev/zero | tr '\0' x"#, &[]);
    let job = runs.until(&id, "COMPLETED");
    let logs = job["logs"].as_str().unwrap();
    assert!(logs.starts_with("a\0b\u{fffd}\u{1b}[31mx"), "{:?}", &logs[..20]);
    assert!(logs.len() < 1_100_000 && logs.trim_end().ends_with("more bytes were written and are not kept"), "{}", logs.len());
}

#[test]
fn jobs_outlive_a_server_that_is_killed_and_run_on() {
    let data = TempDir::new().unwrap();
    let args = ["--jobs-process", "yes", "--appendfsync", "always", "--jobs-slots", "3"];
    let mut runs = Runs::on(Process::flux_in(data.path(), &args));
    let marks = TempDir::new().unwrap();
    let mark = |number: u32| marks.path().join(number.to_string());
    // The first try of each waits for ever.
    let script = |number| format!("echo >> {0}; [ $(wc -l < {0}) -gt 1 ] || sleep 1000", mark(number).display());
    let ids: Vec<String> = (0..3).map(|number| runs.submit("bash", &script(number), &[])).collect();
    let later = runs.submit("bash", "true", &[("runAt", "2090-01-01T00:00:00Z")]);
    until("all run", || (0..3).all(|number| mark(number).exists()));
    runs.server.kill();
    runs.server.ended();
    runs = Runs::on(Process::flux_in(data.path(), &args));
    // Nothing of the first tries runs on.
    for id in &ids {
        let job = runs.until(id, "COMPLETED");
        assert_eq!((&job["attempt"], &job["attempts"][0]["finalStatus"]), (&json!(2), &json!("LOST")), "{job}");
    }
    assert_eq!(runs.job(&later)["substate"], "SCHEDULED");
}

#[test]
fn without_a_runtime_jobs_wait_and_nobody_can_switch_one_on_from_outside() {
    let runs = Runs::on(Process::flux(&[]));
    let id = runs.submit("bash", "true", &[]);
    assert_eq!(runs.job(&id)["state"], "QUEUED");
    let reply = runs.server.connect().call(&["CONFIG", "SET", "jobs-process", "yes"]).unwrap();
    assert!(format!("{reply:?}").contains("could run programs on this machine"), "{reply:?}");
    let (status, told) = runs.ask("POST", &format!("/jobs/{id}/cancel"));
    assert_eq!((status, &told["substate"]), (200, &json!("CANCELLED")));
}

/// Also where the journal is synced once a second.
#[test]
fn a_job_is_kept_when_its_submission_is_answered() {
    let data = TempDir::new().unwrap();
    for round in 0..5 {
        let mut runs = Runs::on(Process::flux_in(data.path(), &[]));
        let (_, listed) = runs.ask("GET", "/jobs");
        assert_eq!(listed["count"], round);
        runs.submit("bash", "true", &[]);
        runs.server.kill();
        runs.server.ended();
    }
}

#[test]
fn the_first_example_of_the_docs_works() {
    let page = include_str!("../../../docs/jobs.md");
    let example = page.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let runs = Runs::new(&[]);
    let folder = TempDir::new().unwrap();
    let script = example.replace("localhost:3000", &runs.address.to_string());
    let ran = Command::new("sh").args(["-ec", &script]).current_dir(folder.path()).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(told["job"]["output"], json!({"greeted": true}), "{told}");
    assert_eq!(told["job"]["logs"], "hello {\"name\": \"world\"}\n");
}
