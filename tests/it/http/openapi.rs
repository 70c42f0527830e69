//! The description of the routes, as programs read it: a validator takes it, and the server does what it says. See tests/clients/http_routes.py.

use std::path::Path;
use std::process::Command;

use super::{Door, Worker};
use crate::process::has;

const ECHO: &str = r#"[{"name":"echo","description":"Says it again","schema":{"type":["object","null"]}},{"name":"length"}]"#;

#[test]
fn the_server_does_what_its_openapi_description_says() {
    let python = std::env::var("FLUX_PYTHON").unwrap_or_else(|_| "python3".into());
    let probe = "import schemathesis, openapi_spec_validator";
    if !has("schemathesis and openapi-spec-validator", Command::new(&python).args(["-c", probe])) {
        return;
    }
    let door = Door::open(&[]);
    let echo = |payload: &str| vec![["OK".into(), payload.to_owned()]];
    let _workers = [Worker::start(&door, "alpha", ECHO, echo), Worker::start(&door, "beta", ECHO, echo)];
    for (path, value) in [("alpha/ctx/doc/intro.md", "text"), ("alpha/ctx/goal", "{\"is\":\"far\"}"), ("beta/ctx/goal", "1")] {
        assert_eq!(door.ask("PUT", &format!("/workspaces/{path}"), &[], value).status, 200);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/http_routes.py");
    let output = Command::new(python).arg(script).env("FLUX_HTTP", format!("http://{}", door.address)).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
