//! `/sdk/`: the client libraries that this server speaks with, as npm and pip install them. `build.rs` packs them.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use sha1::{Digest, Sha1};

use super::answer::Refusal;

/// A package: its file's name, what kind of file it is, and its bytes.
struct Package {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    tag: LazyLock<String>,
}

static PACKAGES: [Package; 2] = [
    Package {
        name: env!("FLUX_SDK_JAVASCRIPT"),
        kind: "application/gzip",
        bytes: include_bytes!(concat!(env!("OUT_DIR"), "/javascript")),
        tag: LazyLock::new(|| tag(PACKAGES[0].bytes)),
    },
    Package {
        name: env!("FLUX_SDK_PYTHON"),
        kind: "application/zip",
        bytes: include_bytes!(concat!(env!("OUT_DIR"), "/python")),
        tag: LazyLock::new(|| tag(PACKAGES[1].bytes)),
    },
];

fn tag(bytes: &[u8]) -> String {
    format!("\"{:x}\"", Sha1::digest(bytes))
}

/// Links to all of them, which `pip --find-links` reads as well.
pub async fn index() -> Html<String> {
    let link = |package: &Package| format!("<p><a href=\"{0}\">{0}</a></p>\n", package.name);
    Html(format!("<!doctype html>\n<title>flux sdk</title>\n{}", PACKAGES.iter().map(link).collect::<String>()))
}

pub async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some(package) = PACKAGES.iter().find(|package| package.name == name) else {
        return Refusal::new("NOROUTE", format!("there is no `{name}` here; GET /sdk/ lists what there is")).into_response();
    };
    // The name has only the version, and two builds of one version may differ.
    let known = [(header::ETAG, package.tag.as_str()), (header::CACHE_CONTROL, "no-cache")];
    let is_known = headers.get_all(header::IF_NONE_MATCH).iter().any(|value| {
        value.to_str().is_ok_and(|value| value.split(',').any(|tag| tag.trim().trim_start_matches("W/") == *package.tag))
    });
    if is_known {
        return (StatusCode::NOT_MODIFIED, known).into_response();
    }
    (known, [(header::CONTENT_TYPE, package.kind)], package.bytes).into_response()
}
