//! `/sdk/`: the client libraries that this server speaks with, as npm and pip install them, and the modules of the JavaScript one
//! for pages that import them from here. `build.rs` packs them.

use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse};
use sha1::{Digest, Sha1};

use crate::commands::route::{Answer, Ask, Refusal};

/// A file: its path below `/sdk/`, what kind of file it is, and its bytes.
struct File {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    tag: String,
}

impl File {
    fn new(path: &'static str, kind: &'static str, bytes: &'static [u8]) -> File {
        File { path, kind, bytes, tag: format!("\"{:x}\"", Sha1::digest(bytes)) }
    }

    fn module((path, bytes): &(&'static str, &'static [u8])) -> File {
        let kind = if path.ends_with(".ts") { "application/typescript" } else { "text/javascript; charset=utf-8" };
        File::new(path, kind, bytes)
    }
}

/// Modules: paths and contents.
const MODULES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/modules.rs"));

static PACKAGES: LazyLock<[File; 2]> = LazyLock::new(|| {
    [
        File::new(env!("SDK_JAVASCRIPT"), "application/gzip", include_bytes!(concat!(env!("OUT_DIR"), "/javascript"))),
        File::new(env!("SDK_PYTHON"), "application/zip", include_bytes!(concat!(env!("OUT_DIR"), "/python"))),
    ]
});

static MODULE_FILES: LazyLock<Vec<File>> = LazyLock::new(|| MODULES.iter().map(File::module).collect());

/// Links to the packages, which `pip --find-links` reads as well.
pub(crate) async fn index(_: Ask) -> Answer {
    let link = |package: &File| format!("<p><a href=\"{0}\">{0}</a></p>\n", package.path);
    let links: String = PACKAGES.iter().map(link).collect();
    Ok(Html(format!("<!doctype html>\n<title>flux sdk</title>\n{links}")).into_response())
}

pub(crate) async fn package(ask: Ask) -> Answer {
    send(&*PACKAGES, ask.part("file"), ask.headers())
}

pub(crate) async fn module(ask: Ask) -> Answer {
    send(&MODULE_FILES, &format!("js/{}", ask.part("module")), ask.headers())
}

fn send(files: &[File], path: &str, headers: &HeaderMap) -> Answer {
    let Some(file) = files.iter().find(|file| file.path == path) else {
        return Err(Refusal::new("NOROUTE", format!("there is no `{path}` here; GET /sdk/ lists what there is")));
    };
    let known: [(HeaderName, &str); 4] = [
        (header::ETAG, &file.tag),
        // The name has the version at most, and two builds of one version may differ.
        (header::CACHE_CONTROL, "no-cache"),
        // A page of any origin may import it: it is the same for all. What it may do with it, the guard says.
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let is_known = headers.get_all(header::IF_NONE_MATCH).iter().any(|value| {
        value.to_str().is_ok_and(|value| value.split(',').any(|tag| tag.trim().trim_start_matches("W/") == file.tag))
    });
    if is_known {
        return Ok((StatusCode::NOT_MODIFIED, known).into_response());
    }
    Ok((known, [(header::CONTENT_TYPE, file.kind)], file.bytes).into_response())
}
