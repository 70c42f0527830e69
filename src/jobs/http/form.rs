//! Forms with files (RFC 7578).

use std::collections::BTreeMap;
use std::convert::Infallible;

use axum::http::header;
use futures_util::stream::once;
use multer::Multipart;

use crate::commands::route::{Ask, Refusal};

/// What a form has.
#[derive(Default)]
pub(crate) struct Form {
    /// The file `script`.
    pub script: Option<Vec<u8>>,
    /// All else, as text.
    pub fields: BTreeMap<String, String>,
}

/// Reads the form that is sent along.
pub(crate) async fn read(ask: &mut Ask) -> Result<Form, Refusal> {
    let media = ask.headers().get(header::CONTENT_TYPE).and_then(|media| media.to_str().ok()).unwrap_or_default().to_owned();
    let boundary = multer::parse_boundary(&media).map_err(|_| {
        Refusal::bad_request("send a form: content-type multipart/form-data with its boundary, as `curl -F` does")
    })?;
    let body = ask.body().await?;
    let mut parts = Multipart::new(once(async move { Ok::<_, Infallible>(body) }), boundary);
    let broken = |error: multer::Error| Refusal::bad_request(format!("the form cannot be read: {error}"));
    let mut form = Form::default();
    while let Some(part) = parts.next_field().await.map_err(broken)? {
        let Some(name) = part.name().map(str::to_owned) else {
            return Err(Refusal::bad_request("the form cannot be read: a field has no name"));
        };
        let bytes = part.bytes().await.map_err(broken)?;
        if name == "script" {
            if form.script.replace(bytes.to_vec()).is_some() {
                return Err(Refusal::bad_request("`script` is there twice"));
            }
            continue;
        }
        let text =
            String::from_utf8(bytes.to_vec()).map_err(|_| Refusal::bad_request(format!("`{name}` is no text in UTF-8")))?;
        if form.fields.insert(name.clone(), text).is_some() {
            return Err(Refusal::bad_request(format!("`{name}` is there twice")));
        }
    }
    Ok(form)
}
