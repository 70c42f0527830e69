//! Child processes, with real ones: they exchange frames, keep to their limits, and are gone with all they started.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use flux::lifecycle::child::{Broken, Child, Drained, Launcher, Limits, Program};
use flux::lifecycle::{Backoff, Kind, Lifecycle, Phase, Plan};
use tempfile::TempDir;

use super::carrier;
use crate::process::has;

/// Says to this test's own process that it is the parent that is killed, and which pipe its children hold.
const PARENT: &str = "FLUX_TEST_LIFECYCLE_PARENT";
/// What a test waits for at most where it must not come to that.
const LONG: Duration = Duration::from_secs(60);

/// Answers each frame with the same bytes, backwards, until there are no more.
const ECHO: &str = "
import sys
def read(): return sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(4), 'little'))
def write(frame):
    sys.stdout.buffer.write(len(frame).to_bytes(4, 'little') + frame)
    sys.stdout.buffer.flush()
while frame := read(): write(frame[::-1])
";

fn launcher() -> Launcher {
    Launcher::new(env!("CARGO_BIN_EXE_flux"))
}

fn shell(script: &str) -> Program {
    let mut program = Program::new("shell", "/bin/sh");
    program.args = vec!["-c".into(), script.into()];
    program.env = vec![("PATH".into(), "/usr/bin:/bin".into())];
    program
}

/// None where there is no Python.
fn python(script: &str) -> Option<Program> {
    if !has("python3", Command::new("python3").arg("--version")) {
        return None;
    }
    let mut program = Program::new("python", "python3");
    program.args = vec!["-c".into(), script.into()];
    program.env = vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())];
    Some(program)
}

fn launch(program: &Program) -> Child {
    launcher().launch(program).unwrap()
}

/// A pipe with a name, of which whoever is asked about holds the writing end: it is at its end when they are gone.
struct Held {
    path: std::path::PathBuf,
    _dir: TempDir,
}

impl Held {
    fn new() -> Held {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("held");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        Held { path, _dir: dir }
    }

    /// Waits for the first line of each of so many, and then calls `then`; when this returns, nobody holds it any more.
    fn until_gone(&self, count: usize, then: impl FnOnce()) {
        let mut lines = BufReader::new(File::open(&self.path).unwrap());
        (0..count).for_each(|_| assert!(lines.read_line(&mut String::new()).unwrap() > 0));
        then();
        assert_eq!(lines.read_to_end(&mut Vec::new()).unwrap(), 0);
    }
}

/// Itself, a child, one that is nobody's child any more, and one in a session of its own, none of which heeds SIGTERM.
fn family(held: &Path) -> Program {
    let deaf = "trap '' TERM; echo up >&3; while :; do sleep 1000; done";
    let script = format!(
        "exec 3>'{}'; trap '' TERM
        sh -c \"{deaf}\" & (sh -c \"{deaf}\" &) ; setsid sh -c \"{deaf}\" &
        {deaf}",
        held.display()
    );
    shell(&script)
}

#[tokio::test]
async fn frames_of_any_length_go_both_ways() {
    let Some(program) = python(ECHO) else { return };
    let mut child = launch(&program);
    for length in [1, 2, 1000, 200_000, 1 << 20] {
        let frame: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let (input, output) = child.pipes();
        // At once: neither pipe holds as much.
        let (sent, received) = tokio::join!(input.send(&frame), output.receive());
        sent.unwrap();
        assert!(received.unwrap().unwrap().iter().eq(frame.iter().rev()));
    }
    assert!(matches!(child.send(&vec![0; (1 << 20) + 1]).await, Err(Broken::TooLong(max)) if max == 1 << 20));
    assert!(matches!(child.drain(LONG, |_| unreachable!()).await, Drained::Whole(ended) if ended.code == 0));
}

#[tokio::test]
async fn a_child_that_is_drained_gives_its_last_answers() {
    let Some(program) = python(ECHO) else { return };
    let mut child = launch(&program);
    for word in [&b"one"[..], b"two", b"three"] {
        child.send(word).await.unwrap();
    }
    let mut answers = Vec::new();
    let drained = child.drain(LONG, |answer| answers.push(String::from_utf8(answer).unwrap())).await;
    assert_eq!(answers, ["eno", "owt", "eerht"]);
    assert!(matches!(drained, Drained::Whole(ended) if ended.code == 0));
}

#[tokio::test]
async fn a_child_that_does_not_end_is_cut_at_the_deadline() {
    let drained = launch(&shell("exec >&-; exec sleep 1000")).drain(Duration::ZERO, |_| ()).await;
    assert!(matches!(drained, Drained::Cut(ended) if ended.code == 137));
}

#[tokio::test]
async fn a_child_hears_that_it_is_to_end_and_one_that_does_not_heed_it_is_killed() {
    let mut obedient = launch(&shell("trap 'exit 7' TERM; printf '\\2\\0\\0\\0up'; while :; do sleep 1000 & wait; done"));
    assert_eq!(obedient.receive().await.unwrap().as_deref(), Some(&b"up"[..]));
    assert!(matches!(obedient.stop(LONG).await, Drained::Whole(ended) if ended.code == 7));
    let mut deaf = launch(&shell("trap '' TERM; printf '\\2\\0\\0\\0up'; while :; do sleep 1000; done"));
    assert_eq!(deaf.receive().await.unwrap().as_deref(), Some(&b"up"[..]));
    assert!(matches!(deaf.stop(Duration::ZERO).await, Drained::Cut(ended) if ended.code == 137));
}

#[tokio::test]
async fn a_child_hears_that_it_is_to_end_however_soon_that_is() {
    for round in 0..60 {
        let child = launch(&shell("exec sleep 1000"));
        // As far as it comes in so many turns.
        for _ in 0..round * 20 {
            tokio::task::yield_now().await;
        }
        let drained = child.stop(LONG).await;
        assert!(matches!(&drained, Drained::Whole(ended) if ended.code == 128 + 15), "{round}: {drained:?}");
    }
}

#[tokio::test]
async fn a_child_is_killed_with_all_it_started_however_they_try_to_get_away() {
    let held = Held::new();
    let child = launch(&family(&held.path));
    let (go, went) = std::sync::mpsc::channel();
    let watcher = std::thread::spawn(move || held.until_gone(4, || go.send(()).unwrap()));
    tokio::task::spawn_blocking(move || went.recv().unwrap()).await.unwrap();
    assert_eq!(child.kill().await.code, 137);
    tokio::task::spawn_blocking(|| watcher.join().unwrap()).await.unwrap();
}

#[tokio::test]
async fn what_a_child_leaves_behind_is_gone_with_it_and_so_is_one_that_is_dropped() {
    let held = Held::new();
    let script = format!("exec 3>'{}'; (setsid sh -c 'echo up >&3; exec sleep 1000' &) ; read line", held.path.display());
    for is_dropped in [false, true] {
        let mut child = launch(&shell(&script));
        let (go, went) = std::sync::mpsc::channel();
        let path = held.path.clone();
        let watcher = std::thread::spawn(move || {
            let held = Held { path, _dir: TempDir::new().unwrap() };
            held.until_gone(1, || go.send(()).unwrap())
        });
        tokio::task::spawn_blocking(move || went.recv().unwrap()).await.unwrap();
        if is_dropped {
            drop(child);
        } else {
            child.pipes().0.close();
            assert_eq!(child.ended().await.code, 1, "`read` is at the end of its input");
        }
        tokio::task::spawn_blocking(|| watcher.join().unwrap()).await.unwrap();
    }
}

#[test]
fn a_parent_that_is_killed_takes_its_children_along() {
    if let Some(held) = std::env::var_os(PARENT) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // In a thread that ends, which must not matter: only the process counts.
        let _child = std::thread::scope(|scope| {
            scope.spawn(|| runtime.block_on(async { launch(&family(Path::new(&held))) })).join().unwrap()
        });
        // Until it is killed.
        loop {
            std::thread::park();
        }
    }
    let held = Held::new();
    let test = "lifecycle::children::a_parent_that_is_killed_takes_its_children_along";
    let mut parent = Command::new(std::env::current_exe().unwrap());
    parent.args(["--exact", "--nocapture", test]).env(PARENT, &held.path).stdout(Stdio::null());
    let mut parent = parent.spawn().unwrap();
    // By SIGKILL.
    held.until_gone(4, || parent.kill().unwrap());
    parent.wait().unwrap();
}

#[tokio::test]
async fn half_a_frame_is_no_frame() {
    let mut child = launch(&shell("printf '\\5\\0\\0\\0abc'"));
    assert!(matches!(child.receive().await, Err(Broken::Torn)));
    let mut child = launch(&shell("printf '\\1\\0\\0\\0a\\5\\0'"));
    assert_eq!(child.receive().await.unwrap().as_deref(), Some(&b"a"[..]));
    assert!(matches!(child.receive().await, Err(Broken::Torn)));
    let mut child = launch(&shell("printf '\\1\\0\\0\\0a'"));
    assert_eq!(child.receive().await.unwrap().as_deref(), Some(&b"a"[..]));
    assert!(matches!(child.receive().await, Ok(None)));
}

#[tokio::test]
async fn a_flood_on_standard_output_waits_and_is_told_from_frames() {
    let mut child = launch(&shell("exec yes"));
    assert!(matches!(child.receive().await, Err(Broken::TooLong(_))));
    // It has written no more than the pipe holds, and is at it still.
    assert!(matches!(child.drain(LONG, |_| unreachable!()).await, Drained::Cut(ended) if ended.code == 137));
}

#[tokio::test]
async fn a_flood_on_standard_error_is_read_and_only_its_end_is_kept() {
    let mut child = launch(&shell("yes a flood | head -c 50000000 >&2; printf 'the \\033[31mend' >&2; exit 3"));
    let ended = child.ended().await;
    assert_eq!(ended.code, 3);
    // The log may still be reading what is left in the pipe.
    let said = loop {
        let said = child.ended().await.said;
        if said.contains("the \u{fffd}[31mend") {
            break said;
        }
        tokio::task::yield_now().await;
    };
    assert!(said.len() <= 2048 && said.starts_with("flood") || said.contains("a flood\n"), "{said}");
}

#[tokio::test]
async fn a_child_that_ended_takes_no_frames() {
    let mut child = launch(&shell("exec <&-; printf '\\1\\0\\0\\0a'; exit 0"));
    assert_eq!(child.receive().await.unwrap().as_deref(), Some(&b"a"[..]));
    child.ended().await;
    assert!(matches!(child.send(b"x").await, Err(Broken::Closed)));
    assert!(matches!(child.send(b"x").await, Err(Broken::Closed)));
}

#[tokio::test]
async fn a_child_knows_nothing_of_our_environment_and_has_a_session_of_its_own() {
    let dir = TempDir::new().unwrap();
    let mut program = shell("env -u PWD -u OLDPWD -u SHLVL -u _; pwd; ps -o sid= -p $$ | tr -d ' '; echo $$");
    program.env.push(("GIVEN".into(), "value".into()));
    program.folder = Some(dir.path().to_owned());
    program.args[1] = format!("{} >&2", program.args[1].to_str().unwrap().replace(';', " >&2;")).into();
    let mut child = launch(&program);
    child.ended().await;
    let said = loop {
        let said = child.ended().await.said;
        if said.lines().count() >= 5 {
            break said;
        }
        tokio::task::yield_now().await;
    };
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..3], ["PATH=/usr/bin:/bin", "GIVEN=value", dir.path().to_str().unwrap()]);
    assert_eq!(lines[3], lines[4], "it leads its session");
}

#[tokio::test]
async fn a_child_keeps_to_its_limits() {
    let Some(mut greedy) = python("bytearray(1 << 30)") else { return };
    greedy.limits = Limits { address_space_bytes: Some(512 << 20), ..Limits::default() };
    let ended = ended_with(&greedy, "MemoryError").await;
    assert_eq!(ended, 1);
    let mut busy = shell("while :; do :; done");
    busy.limits = Limits { cpu_seconds: Some(1), ..Limits::default() };
    // SIGXCPU.
    assert_eq!(launch(&busy).ended().await.code, 128 + 24);
    let mut curious = shell("exec 3</dev/null 4</dev/null 5</dev/null 6</dev/null 7</dev/null; cat /dev/null");
    curious.limits = Limits { open_files: Some(8), ..Limits::default() };
    assert_ne!(launch(&curious).ended().await.code, 0);
    curious.limits = Limits::default();
    assert_eq!(launch(&curious).ended().await.code, 0);
    let dir = TempDir::new().unwrap();
    let mut chatty = shell(&format!("ulimit -c >&2; head -c 4096 /dev/zero > '{}'", dir.path().join("file").display()));
    chatty.limits = Limits { file_bytes: Some(1024), ..Limits::default() };
    assert_ne!(ended_with(&chatty, "0").await, 0, "and it leaves no core behind");
    assert_eq!(dir.path().join("file").metadata().unwrap().len(), 1024);
}

/// Its exit code, when it has said this on standard error.
async fn ended_with(program: &Program, said: &str) -> i32 {
    let mut child = launch(program);
    loop {
        let ended = child.ended().await;
        if ended.said.contains(said) {
            return ended.code;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_program_that_is_not_there_or_cannot_run_says_so() {
    let missing = Program::new("missing", "/nowhere/program");
    assert_eq!(ended_with(&missing, "flux: run `/nowhere/program`: No such file or directory").await, 127);
    let folder = Program::new("folder", "/tmp");
    assert_eq!(ended_with(&folder, "flux: run `/tmp`: Permission denied").await, 126);
    assert!(Launcher::new("/nowhere/flux").launch(&missing).is_err());
}

#[test]
fn what_is_for_flux_itself_is_refused_to_users() {
    for args in [&["child"][..], &["child", "supervise"], &["child", "enter", "x", "-", "-", "-", "-", "-", "true"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_flux")).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(126));
        assert!(String::from_utf8(output.stderr).unwrap().starts_with("flux: `flux child` is "));
    }
}

#[test]
fn a_child_that_dies_is_launched_again_and_shown_with_its_last_error() {
    let life = Lifecycle::default();
    let (carrier, _carries) = carrier();
    let _within = carrier.enter();
    let (told, pids) = std::sync::mpsc::channel();
    let at_once = Backoff { first: Duration::ZERO, most: Duration::ZERO };
    let program = shell("printf '\\2\\0\\0\\0up'; read line; exit 5");
    let serve = move |mut child: Child, stop: flux::lifecycle::Stop| {
        let told = told.clone();
        async move {
            assert_eq!(child.receive().await.unwrap().as_deref(), Some(&b"up"[..]));
            told.send(child.pid().unwrap()).unwrap();
            tokio::select! {
                ended = child.ended() => Err(ended.to_string()),
                () = stop.asked() => {
                    child.stop(LONG).await;
                    Ok(())
                }
            }
        }
    };
    life.keep_child(Plan::new("worker", Phase::Rooms), at_once, launcher(), program, serve).unwrap();
    let first = pids.recv().unwrap();
    let row = life.report().remove(0);
    assert_eq!((row.kind, row.pid, row.restarts, row.last_error), (Kind::Child, Some(first), 0, None));
    assert!(Command::new("kill").args(["-KILL", &first.to_string()]).status().unwrap().success());
    let second = pids.recv().unwrap();
    let row = life.report().remove(0);
    assert_eq!((row.pid, row.restarts, row.last_error.as_deref()), (Some(second), 1, Some("was ended by signal 9")));
    life.stop(Phase::Rooms);
    assert_eq!(life.report(), []);
}
