//! The log of `flux serve`: lines or JSON to standard error, as much as `loglevel` says at each moment, or what `FLUX_LOG` picks out.

use std::io::IsTerminal;

use anyhow::{Context, bail};
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Config, Name};

/// Starts it. A `FLUX_LOG` that cannot be understood is refused, lest someone waits for lines that never come.
pub(crate) fn start(config: &Config) -> anyhow::Result<()> {
    let fixed = std::env::var("FLUX_LOG").ok().filter(|text| !text.is_empty()).map(|text| chosen(&text)).transpose()?;
    let is_fixed = fixed.is_some();
    let (filter, handle) = reload::Layer::new(fixed.unwrap_or_else(|| filter_of(config)));
    // Fails where a log was started before, as in a test: then that one is used.
    let _ = tracing_subscriber::registry().with(filter).with(lines(config)).try_init();
    if !is_fixed {
        config.watch(&[Name::Loglevel], move |config| drop(handle.reload(filter_of(config))));
    }
    Ok(())
}

fn lines<S: Subscriber + for<'a> LookupSpan<'a>>(config: &Config) -> Box<dyn Layer<S> + Send + Sync> {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    match &*config.text(Name::LogFormat) {
        "json" => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
        _ => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
    }
}

/// A filter of `tracing`. It takes any word for the name of a module, so a mistyped level would silence the log: a word alone must be a level
/// or a module of ours.
fn chosen(text: &str) -> anyhow::Result<EnvFilter> {
    const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "off"];
    const HINT: &str = "say a level (trace, debug, info, warn, error, off), or one for a module: flux=debug, flux::peers=trace";
    let is_bare = |word: &&str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let is_known = |word: &str| word.is_empty() || word == "flux" || LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    if let Some(word) = text.split(',').map(str::trim).filter(is_bare).find(|word| !is_known(word)) {
        bail!("FLUX_LOG: `{word}` is no level; {HINT}");
    }
    EnvFilter::try_new(text).with_context(|| format!("FLUX_LOG: `{text}` is no filter; {HINT}"))
}

fn filter_of(config: &Config) -> EnvFilter {
    EnvFilter::new(match &*config.text(Name::Loglevel) {
        "debug" => "trace",
        "verbose" => "debug",
        "warning" => "warn",
        _ => "info",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_would_show_nothing_is_refused() {
        for text in ["debug", "flux=debug", "info,hyper=off", "flux", "WARN", "flux::peers=trace,"] {
            assert!(chosen(text).is_ok(), "{text}");
        }
        for text in ["loud", "flux=debgu", "info,debgu", "=", "7x"] {
            assert!(chosen(text).is_err(), "{text}");
        }
    }
}
