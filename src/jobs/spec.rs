//! What is to run, and how: as it is stored, with every default filled in.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::str::FromStr;

use chrono::DateTime;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// Tries of a job that does not say how many.
pub(crate) const TRIES: u32 = 3;
/// Tries that a job may have at most.
pub(crate) const TRIES_MAX: u32 = 1000;
/// How long a job may run that does not say.
pub(crate) const TIMEOUT_MS: u64 = 5 * 60 * 1000;
/// How long a job may run at most: a week.
pub(crate) const TIMEOUT_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1000;
/// The highest priority. The lowest is 0.
pub(crate) const PRIORITY_MAX: u8 = 9;
/// The priority of a job that has none.
pub(crate) const PRIORITY: u8 = 5;
/// Bytes of a name, a key or a label.
pub(crate) const NAME_BYTES_MAX: usize = 256;
/// Jobs of one concurrency key that may run at once, at most.
pub(crate) const CONCURRENCY_MAX: u32 = 1_000_000;
/// Milliseconds between two tries at most: a day.
pub(crate) const BACKOFF_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// The fields of a job as they are submitted, beside its script.
pub(crate) const FIELDS: &[&str] = &[
    "name",
    "type",
    "runtime",
    "payload",
    "dependencies",
    "maxRetries",
    "runAt",
    "timeoutMs",
    "priority",
    "concurrency",
    "backoff",
    "env",
    "labels",
    "idempotencyKey",
];

/// What is wrong with a job that was submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// The field.
    pub field: String,
    /// What it must be.
    pub reason: String,
}

impl Display for Wrong {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "`{}` {}", self.field, self.reason)
    }
}

fn wrong(field: &str, reason: impl Into<String>) -> Wrong {
    Wrong { field: field.to_owned(), reason: reason.into() }
}

/// What is to run, and how. Its names are those of the HTTP API.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// For people.
    pub name: String,
    /// A word of its owner's: what kind of job it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// What runs it.
    pub runtime: String,
    /// Packages it needs, as its runtime's tool names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<String>,
    /// How often it is tried, the first time among them.
    pub max_retries: u32,
    /// Not before this time, in milliseconds since the epoch.
    pub run_at: u64,
    /// Milliseconds that one try may take.
    pub timeout_ms: u64,
    /// Which go first: 0 to 9, higher ones before lower ones.
    pub priority: u8,
    /// At most so many jobs with the same key run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// How long to wait before it is tried again.
    #[serde(default)]
    pub backoff: Backoff,
    /// Variables of its environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// For people and filters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// SHA-256 of the script, in hexadecimal digits.
    pub checksum: String,
}

/// A bound on how many run at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concurrency {
    /// What they have in common.
    pub key: String,
    /// How many of them may run.
    pub limit: u32,
}

/// How long to wait before a job that failed is tried again: twice as long after each further failure, and up to half of it more or less by
/// chance, so that those that failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backoff {
    /// Milliseconds after the first failure.
    pub first_ms: u64,
    /// Milliseconds at most.
    pub most_ms: u64,
}

impl Spec {
    /// Of the fields of a form, each as text, and the script; with it the payload. Where a field is missing, its default is filled in; where it is there, it counts
    /// or is wrong.
    pub(crate) fn read(
        fields: &BTreeMap<String, String>,
        script: &[u8],
        runtimes: &[&str],
        now: u64,
    ) -> Result<(Spec, Box<RawValue>), Wrong> {
        let text = |name: &str| fields.get(name).map(String::as_str);
        if let Some(unknown) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
            return Err(wrong(unknown, format!("is no field of a job: there are script, {}", FIELDS.join(", "))));
        }
        let runtime = text("runtime").ok_or_else(|| wrong("runtime", format!("is missing: {}", runtimes.join(", "))))?;
        if !runtimes.contains(&runtime) {
            return Err(wrong("runtime", format!("is one of: {}", runtimes.join(", "))));
        }
        let run_at = match text("runAt") {
            None => now,
            Some(time) => {
                let time = DateTime::parse_from_rfc3339(time);
                let time = time.map_err(|_| wrong("runAt", "is a time with its zone, as in 2030-01-31T09:00:00Z"))?;
                time.timestamp_millis().max(0) as u64
            }
        };
        let concurrency: Option<Concurrency> =
            json(text("concurrency"), "concurrency", r#"is JSON as in {"key": "tenant-1", "limit": 2}"#)?;
        if let Some(bound) = &concurrency {
            short("concurrency", &bound.key)?;
            if bound.key.is_empty() || !(1..=CONCURRENCY_MAX).contains(&bound.limit) {
                return Err(wrong("concurrency", format!("has a key, and a limit of 1 to {CONCURRENCY_MAX}")));
            }
        }
        let backoff: Backoff =
            json(text("backoff"), "backoff", r#"is JSON as in {"firstMs": 1000, "mostMs": 60000}"#)?.unwrap_or_default();
        if backoff.first_ms > BACKOFF_MS_MAX || backoff.most_ms > BACKOFF_MS_MAX {
            return Err(wrong("backoff", format!("is at most {BACKOFF_MS_MAX} ms: a day")));
        }
        let payload = RawValue::from_string(text("payload").unwrap_or("{}").to_owned());
        let payload = payload.map_err(|error| wrong("payload", format!("is no JSON: {error}")))?;
        let env: BTreeMap<String, String> =
            json(text("env"), "env", r#"is JSON: an object of texts, as in {"LEVEL": "high"}"#)?.unwrap_or_default();
        if let Some((name, _)) =
            env.iter().find(|(name, value)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0'))
        {
            return Err(wrong("env", format!("has a variable `{}` that there cannot be", name.escape_default())));
        }
        let labels: BTreeMap<String, String> =
            json(text("labels"), "labels", r#"is JSON: an object of texts, as in {"team": "blue"}"#)?.unwrap_or_default();
        labels.iter().flat_map(|(name, value)| [name, value]).try_for_each(|word| short("labels", word))?;
        let dependencies: Vec<String> =
            json(text("dependencies"), "dependencies", r#"is JSON: an array of texts, as in ["axios"]"#)?.unwrap_or_default();
        for name in ["name", "type", "idempotencyKey"] {
            short(name, text(name).unwrap_or_default())?;
        }
        let spec = Spec {
            name: text("name").unwrap_or("dataset-worker").to_owned(),
            kind: text("type").unwrap_or("GENERIC_SCRIPT").to_owned(),
            runtime: runtime.to_owned(),
            dependencies,
            max_retries: number(text("maxRetries"), "maxRetries", 1, TRIES_MAX, TRIES)?,
            run_at,
            timeout_ms: number(text("timeoutMs"), "timeoutMs", 1, TIMEOUT_MS_MAX, TIMEOUT_MS)?,
            priority: number(text("priority"), "priority", 0, PRIORITY_MAX, PRIORITY)?,
            concurrency,
            backoff,
            env,
            labels,
            checksum: Sha256::digest(script).iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        Ok((spec, payload))
    }
}

fn short(field: &str, text: &str) -> Result<(), Wrong> {
    if text.len() <= NAME_BYTES_MAX { Ok(()) } else { Err(wrong(field, format!("is at most {NAME_BYTES_MAX} bytes"))) }
}

fn json<T: DeserializeOwned>(text: Option<&str>, field: &str, form: &str) -> Result<Option<T>, Wrong> {
    text.map(|text| serde_json::from_str(text).map_err(|error| wrong(field, format!("{form}: {error}")))).transpose()
}

fn number<T: FromStr + PartialOrd + Display>(text: Option<&str>, field: &str, min: T, max: T, otherwise: T) -> Result<T, Wrong> {
    let Some(text) = text else { return Ok(otherwise) };
    let number = text.parse().ok().filter(|number| (&min..=&max).contains(&number));
    number.ok_or_else(|| wrong(field, format!("is a whole number from {min} to {max}")))
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { first_ms: 1000, most_ms: 10 * 60 * 1000 }
    }
}

impl Backoff {
    /// Milliseconds to wait after so many failures, one at least. `chance` is any number: what it is taken for is where in the span the
    /// wait ends.
    pub(crate) fn wait_ms(self, failures: u32, chance: u64) -> u64 {
        let doublings = failures.saturating_sub(1).min(40);
        let whole = self.first_ms.saturating_mul(1 << doublings).min(self.most_ms);
        whole / 2 + chance % (whole / 2 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&str, &str)]) -> Result<(Spec, Box<RawValue>), Wrong> {
        let fields = fields.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        Spec::read(&fields, b"echo", &["bash", "node:18"], 1_700_000_000_000)
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let (spec, payload) = read(&[("runtime", "bash")]).unwrap();
        assert_eq!((&*spec.name, &*spec.kind, payload.get()), ("dataset-worker", "GENERIC_SCRIPT", "{}"));
        assert_eq!((spec.max_retries, spec.timeout_ms, spec.priority, spec.run_at), (3, 300_000, 5, 1_700_000_000_000));
        assert_eq!(spec.checksum, "092c79e8f80e559e404bcf660c48f3522b67aba9ff1484b0367e1a4ddef7431d");
        let (spec, payload) =
            read(&[("runtime", "node:18"), ("runAt", "2030-01-31T09:00:00.250+02:00"), ("payload", "[1]")]).unwrap();
        assert_eq!((spec.run_at, payload.get()), (1_896_073_200_250, "[1]"));
    }

    #[test]
    fn what_is_wrong_is_named_and_nothing_is_guessed() {
        let cases = [
            ("runtime", "cobol"),
            ("payload", "{a}"),
            ("dependencies", "axios"),
            ("dependencies", "[1]"),
            ("maxRetries", "0"),
            ("maxRetries", "three"),
            ("maxRetries", "-1"),
            ("runAt", "tomorrow"),
            ("runAt", "2030-01-31T09:00:00"),
            ("timeoutMs", "1e3"),
            ("priority", "10"),
            ("concurrency", "2"),
            ("concurrency", r#"{"key":"a","limit":0}"#),
            ("concurrency", r#"{"key":"","limit":1}"#),
            ("backoff", r#"{"firstMs":-1,"mostMs":2}"#),
            ("backoff", r#"{"firstMs":1,"mostMs":86400001}"#),
            ("env", r#"{"A=B":"c"}"#),
            ("env", r#"{"A":"\u0000"}"#),
            ("env", r#"{"A":1}"#),
            ("labels", "[]"),
            ("maxretries", "3"),
        ];
        for (field, text) in cases {
            let mut fields = vec![(field, text)];
            if field != "runtime" {
                fields.push(("runtime", "bash"));
            }
            let wrong = read(&fields).err().unwrap_or_else(|| panic!("{field} {text}"));
            assert_eq!(wrong.field, field, "{text}: {wrong}");
        }
        assert_eq!(read(&[]).unwrap_err().field, "runtime");
        assert_eq!(read(&[("runtime", "bash"), ("name", &"n".repeat(257))]).unwrap_err().field, "name");
    }

    #[test]
    fn waits_grow_to_their_most_and_none_is_less_than_half() {
        let backoff = Backoff { first_ms: 1000, most_ms: 60_000 };
        let spans: Vec<(u64, u64)> =
            [1, 2, 6, 7, 8, u32::MAX].map(|failures| (backoff.wait_ms(failures, 0), backoff.wait_ms(failures, 30_000))).to_vec();
        assert_eq!(spans[0], (500, 500 + 30_000 % 501));
        assert_eq!(spans[1].0, 1000);
        assert_eq!(spans[2].0, 16_000);
        assert_eq!(spans[3..], [(30_000, 60_000); 3]);
        assert_eq!(Backoff { first_ms: 0, most_ms: 0 }.wait_ms(1, 7), 0);
    }
}
