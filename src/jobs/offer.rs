//! Jobs for other rooms: what `POST /jobs/submit` does, without HTTP.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use chrono::DateTime;
use redis::RedisError;

use crate::clock;
use crate::commands::instance::Instance;
use crate::commands::offers::{Failure, Jobs, Later, NewJob};
use crate::jobs::book::{Book, Once, Order};
use crate::jobs::here::book;
use crate::jobs::names::JobId;
use crate::jobs::runtime::Language;
use crate::jobs::shown::shown;
use crate::jobs::spec::Spec;

/// The jobs of an instance.
pub(crate) struct Offered(pub Weak<Instance>);

impl Offered {
    fn with<T, F>(&self, run: impl FnOnce(Book) -> F + Send + 'static) -> Later<T>
    where
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let instance = self.0.upgrade();
        Box::pin(async move {
            let instance = instance.ok_or_else(|| Failure::new("ENDING", "the server is ending"))?;
            run(book(&instance).await.map_err(failure)?).await
        })
    }
}

impl Jobs for Offered {
    fn submit(&self, job: NewJob) -> Later<Arc<str>> {
        self.with(move |book| async move {
            let now = clock::now_ms();
            let json = String::from_utf8(job.payload.to_vec()).map_err(|_| Failure::new("INVALID", "`payload` is no JSON"))?;
            let mut fields = BTreeMap::from([
                ("name".to_owned(), job.name),
                ("runtime".to_owned(), job.runtime),
                ("payload".to_owned(), json),
                ("dependencies".to_owned(), serde_json::json!(job.dependencies).to_string()),
                ("maxRetries".to_owned(), job.tries.to_string()),
            ]);
            if let Some(time) = job.run_at.and_then(|time| DateTime::from_timestamp_millis(time as i64)) {
                fields.insert("runAt".to_owned(), time.to_rfc3339());
            }
            let said = serde_json::json!(fields).to_string();
            let (spec, payload) = Spec::read(&fields, &job.script, &Language::NAMES, now)
                .map_err(|wrong| Failure::new("INVALID", wrong.to_string()))?;
            let once = job.idempotency_key.map(|key| Once { key, said });
            let order = Order { spec, payload, script: job.script.to_vec(), once };
            let (id, _) = book.submit(&order, now).await.map_err(failure)?;
            Ok(id.as_str().into())
        })
    }

    fn status(&self, id: &str) -> Later<Arc<[u8]>> {
        let id = JobId::parse(id);
        self.with(move |book| async move {
            let id = id.ok_or_else(no_job)?;
            let job = book.job(&id).await.map_err(failure)?.ok_or_else(no_job)?;
            Ok(shown(&book, &job).await.map_err(failure)?.to_string().into_bytes().into())
        })
    }

    fn cancel(&self, id: &str) -> Later<()> {
        let id = JobId::parse(id);
        self.with(move |book| async move {
            let id = id.ok_or_else(no_job)?;
            book.cancel(&id, "it was cancelled", clock::now_ms()).await.map(drop).map_err(failure)
        })
    }
}

fn no_job() -> Failure {
    Failure::new("NOJOB", "job not found")
}

fn failure(error: RedisError) -> Failure {
    match error.code() {
        Some("NOJOB") => no_job(),
        Some("DIFFERS") => Failure::new("DIFFERS", error.detail().unwrap_or_default()),
        _ => Failure::new("ERR", error.to_string()),
    }
}
