//! Peers of the old protocol, unchanged, on flux: alone, as on Redis, with new peers beside them, and when one dies.

use crate::sdk_python::{python, run};

#[test]
fn old_peers_live_on_flux_as_on_redis() {
    if let Some(mut python) = python() {
        let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/test_old_peers.py");
        run(python.arg(script));
    }
}
