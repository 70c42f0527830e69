//! Where settings come from when the server starts: flags, then the `FLUX_*` environment, then a TOML file, then defaults.
//! The settings themselves are `config`'s.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::config::{self, Config, Name, Refused, Settings, Source};
use crate::limits;
use crate::node;

/// The file in the data folder that is read when no other is named, and written by `CONFIG REWRITE`.
const FILE_NAME: &str = "flux.toml";
/// What the names of variables begin with.
const PREFIX: &str = "FLUX_";
/// Variables of ours that are not settings: the file to read, the log's filter, and the server that other commands ask.
const OTHER_VARIABLES: [&str; 3] = ["FLUX_CONFIG", "FLUX_LOG", "FLUX_URL"];

/// Why settings could not be read. The texts say what to change.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file that was asked for is not there.
    #[error("read `{}`: there is no such file; leave out --config to start with defaults", .0.display())]
    NoFile(PathBuf),
    /// A file that is not one of settings.
    #[error(transparent)]
    File(#[from] config::FileError),
    /// A name that is no setting's, or a value that does not fit.
    #[error("{place}: {refused}{hint}")]
    Setting {
        /// The file, variable or flag.
        place: String,
        /// What is wrong there.
        refused: Refused,
        /// What may have been meant.
        hint: String,
    },
    /// What it asks for is not there, and whoever asks for it must not believe that it is.
    #[error(
        "{place}: {what} not available in this version of flux, and going on without it would look as if it were; leave `{setting}` out"
    )]
    Absent {
        /// The file, variable or flag.
        place: String,
        /// The setting.
        setting: &'static str,
        /// What is missing, with its verb.
        what: &'static str,
    },
}

/// Settings that are remembered only, and that nobody may believe to work: what protects, or says what this server is to others. With the value
/// that asks for nothing.
const ABSENT: &[(&str, &str, &str)] = &[
    ("aclfile", "", "access control lists are"),
    ("tls-port", "0", "TLS is"),
    ("replicaof", "", "replication is"),
    ("cluster-enabled", "no", "being a node of a cluster is"),
];

fn hint(refused: &Refused, settings: &Settings) -> String {
    match refused {
        Refused::Unknown(name) => nearest(name, settings).map_or(String::new(), |near| format!("; did you mean `{near}`?")),
        Refused::Setting { .. } => String::new(),
    }
}

/// What settings are read from.
#[derive(Default, Clone)]
pub(crate) struct Sources {
    /// Names and values given as flags.
    pub flags: Vec<(String, String)>,
    /// The file named by a flag.
    pub file: Option<PathBuf>,
    /// Variables of the environment; those of others are passed over.
    pub variables: Vec<(String, String)>,
}

/// Reads all settings. Also tells what to warn of: variables that look like ours but are none, and settings that change nothing here.
pub(crate) fn read(sources: &Sources) -> Result<(Config, Vec<String>), Error> {
    let config = Config::of(node::settings());
    let variable = |name: &str| sources.variables.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone());
    let named = sources.file.clone().or_else(|| variable("FLUX_CONFIG").map(PathBuf::from));
    let file = match named {
        Some(path) => match config::read_file(&path)? {
            None => return Err(Error::NoFile(path)),
            Some(pairs) => Some((path, pairs)),
        },
        None => {
            let chosen =
                sources.flags.iter().rev().find(|(name, _)| name == "data" || name == "dir").map(|(_, value)| value.clone());
            let folder = chosen.or_else(|| variable("FLUX_DATA")).unwrap_or_else(|| config.text(Name::Data).to_string());
            let path = PathBuf::from(&folder).join(FILE_NAME);
            if folder.eq_ignore_ascii_case("off") {
                None
            } else {
                Some((path.clone(), config::read_file(&path)?.unwrap_or_default()))
            }
        }
    };
    if let Some((path, pairs)) = file {
        let place = path.display().to_string();
        choose(&config, &place, Source::File, &pairs)?;
        config.set_file(path);
    }
    let mut warnings = read_variables(&config, sources)?;
    for (name, value) in &sources.flags {
        choose(&config, &format!("--{name}"), Source::Flag, &[(name.clone(), value.clone())])?;
    }
    refuse_absent(&config)?;
    warnings.extend(without_effect(&config));
    Ok((config, warnings))
}

/// Where a value comes from, for people.
fn place(config: &Config, name: &str, source: Source) -> String {
    match source {
        Source::File => config.file().map_or_else(String::new, |path| path.display().to_string()),
        Source::Environment => format!("{PREFIX}{}", name.replace('-', "_").to_ascii_uppercase()),
        _ => format!("--{name}"),
    }
}

fn refuse_absent(config: &Config) -> Result<(), Error> {
    for (name, nothing, what) in ABSENT {
        let setting = config.settings().find(name).expect("the table of settings has it");
        let (value, source) = config.show(setting);
        // As Redis has it, whose master is nobody then.
        let is_nobody = *name == "replicaof" && value.eq_ignore_ascii_case("no one");
        if source != Source::Default && &*value != *nothing && !is_nobody {
            return Err(Error::Absent { place: place(config, name, source), setting: setting.name, what });
        }
    }
    Ok(())
}

/// One line that names what was chosen though it does nothing here.
fn without_effect(config: &Config) -> Option<String> {
    let is_chosen = |setting: &&config::Setting| {
        let (value, source) = config.show(setting);
        source != Source::Default && &*value != setting.default
    };
    let names: Vec<&str> = config.settings().without_effect().filter(is_chosen).map(|setting| setting.name).collect();
    (!names.is_empty())
        .then(|| format!("these settings are remembered for clients that ask, and change nothing here: {}", names.join(", ")))
}

fn choose(config: &Config, place: &str, source: Source, pairs: &[(String, String)]) -> Result<(), Error> {
    for (name, value) in pairs {
        config.choose(name, value, source).map_err(|refused| {
            let hint = hint(&refused, config.settings());
            Error::Setting { place: place.into(), refused, hint }
        })?;
    }
    Ok(())
}

fn read_variables(config: &Config, sources: &Sources) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    let is_flag = |setting: &config::Setting| sources.flags.iter().any(|(flag, _)| setting.names().any(|name| name == flag));
    for (variable, value) in sources.variables.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        let name = variable[PREFIX.len()..].to_ascii_lowercase();
        let settings = config.settings();
        let setting = settings.find(&name.replace('_', "-")).or_else(|| settings.find(&name));
        match setting {
            // A flag overrules it, whatever it says.
            Some(setting) if is_flag(setting) => {}
            Some(_) if is_link(value) => {
                warnings.push(format!(
                    "{variable} is passed over: it is the address of a linked container or service, not a setting"
                ));
            }
            Some(setting) => {
                choose(config, variable, Source::Environment, &[(setting.name.into(), value.clone())])?;
            }
            None if OTHER_VARIABLES.contains(&variable.as_str()) => {}
            None if is_link(value) => {}
            None => warnings.push(format!("{variable} is set, but there is no such setting")),
        }
    }
    Ok(warnings)
}

/// Docker and Kubernetes tell a container of another one, or of a service, called `flux` in variables such as `FLUX_PORT=tcp://10.0.0.7:6379`.
fn is_link(value: &str) -> bool {
    ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme))
}

/// Keeps the bounds of collections' compact forms as the settings have them.
pub(crate) fn connect_limits(config: &Config) {
    const BOUNDS: &[(Name, &AtomicU64)] = &[
        (Name::HashMaxListpackEntries, &limits::HASH_MAX_LISTPACK_ENTRIES),
        (Name::HashMaxListpackValue, &limits::HASH_MAX_LISTPACK_VALUE),
        (Name::SetMaxIntsetEntries, &limits::SET_MAX_INTSET_ENTRIES),
        (Name::SetMaxListpackEntries, &limits::SET_MAX_LISTPACK_ENTRIES),
        (Name::SetMaxListpackValue, &limits::SET_MAX_LISTPACK_VALUE),
        (Name::ZsetMaxListpackEntries, &limits::ZSET_MAX_LISTPACK_ENTRIES),
        (Name::ZsetMaxListpackValue, &limits::ZSET_MAX_LISTPACK_VALUE),
        (Name::ListCompressDepth, &limits::LIST_COMPRESS_DEPTH),
        (Name::StreamNodeMaxBytes, &limits::STREAM_NODE_MAX_BYTES),
        (Name::StreamNodeMaxEntries, &limits::STREAM_NODE_MAX_ENTRIES),
        (Name::HllSparseMaxBytes, &limits::HLL_SPARSE_MAX_BYTES),
        (Name::ProtoMaxBulkLen, &limits::PROTO_MAX_BULK_LEN),
    ];
    for (name, bound) in BOUNDS {
        config.watch(&[*name], |config| bound.store(config.count(*name), Relaxed));
    }
    config.watch(&[Name::ListMaxListpackSize], |config| {
        limits::LIST_MAX_LISTPACK_SIZE.store(config.number(Name::ListMaxListpackSize), Relaxed);
    });
}

/// What to warn of: a file with a secret in it that other users of the machine may read.
pub(crate) fn exposed(config: &Config) -> Option<String> {
    let path = config.file()?;
    let mode = path.metadata().ok()?.permissions().mode();
    let is_secret = config.settings().iter().any(|setting| {
        let (value, source) = config.show(setting);
        setting.is_secret() && source == Source::File && !value.is_empty()
    });
    let text = || format!("`{}` holds a password, and other users may read it: chmod 600 it", path.display());
    (is_secret && mode & 0o077 != 0).then(text)
}

/// The setting a mistyped name most likely meant.
fn nearest(name: &str, settings: &Settings) -> Option<&'static str> {
    settings
        .iter()
        .flat_map(|setting| setting.names())
        .map(|known| (distance(name, known), known))
        .min()
        .filter(|(distance, _)| *distance <= 1 + name.len() / 4)
        .map(|(_, known)| known)
}

/// How many letters must be put, removed or changed to make one word of another (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, expected) in other.bytes().enumerate() {
            let changed = diagonal + usize::from(letter != expected);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn shown(config: &Config, name: &str) -> (String, Source) {
        let (value, source) = config.show(config.settings().find(name).expect("it is a setting"));
        (value.to_string(), source)
    }

    #[test]
    fn flags_win_over_variables_over_the_file_over_defaults() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let data = folder.path().display().to_string();
        std::fs::write(folder.path().join(FILE_NAME), "port = 1\nmaxclients = 2\ntimeout = 3\n").expect("it is ours");
        let sources = Sources {
            flags: owned(&[("data", &data), ("port", "100")]),
            file: None,
            variables: owned(&[
                ("FLUX_PORT", "10"),
                ("FLUX_MAXCLIENTS", "20"),
                ("FLUX_PROT", "1"),
                ("FLUX_URL", "redis://a"),
                ("HOME", "/"),
            ]),
        };
        let (config, warnings) = read(&sources).expect("all fit");
        assert_eq!(shown(&config, "port"), ("100".into(), Source::Flag));
        assert_eq!(shown(&config, "maxclients"), ("20".into(), Source::Environment));
        assert_eq!(shown(&config, "timeout"), ("3".into(), Source::File));
        assert_eq!(shown(&config, "hz"), ("10".into(), Source::Default));
        assert_eq!(warnings, ["FLUX_PROT is set, but there is no such setting"]);
    }

    #[test]
    fn what_protects_and_is_not_there_is_refused_by_its_place_and_what_does_nothing_is_told() {
        let read = |flags: &[(&str, &str)], variables: &[(&str, &str)]| {
            read(&Sources { flags: owned(&[&[("data", "off")], flags].concat()), file: None, variables: owned(variables) })
        };
        for (flag, value) in [("aclfile", "a"), ("tls-port", "1"), ("slaveof", "localhost 6379"), ("cluster-enabled", "yes")] {
            let error = read(&[(flag, value)], &[]).err().expect("it must not look as if it were there").to_string();
            assert!(error.starts_with("--") && error.contains("not available in this version of flux"), "{error}");
        }
        let error = read(&[], &[("FLUX_TLS_PORT", "6380")]).err().expect("it must not look as if it were there").to_string();
        assert!(error.starts_with("FLUX_TLS_PORT: TLS is not available"), "{error}");
        let (_, warnings) =
            read(&[("tls-port", "0"), ("daemonize", "yes"), ("activedefrag", "no")], &[("FLUX_SUPERVISED", "auto")])
                .expect("all fit");
        assert_eq!(
            warnings,
            ["these settings are remembered for clients that ask, and change nothing here: daemonize, supervised"]
        );
    }

    #[test]
    fn variables_of_linked_containers_and_those_that_a_flag_overrules_stop_nothing() {
        let variables = owned(&[
            ("FLUX_PORT", "tcp://10.0.0.7:6379"),
            ("FLUX_PORT_6379_TCP", "tcp://10.0.0.7:6379"),
            ("FLUX_MAXCLIENTS", "x"),
        ]);
        let sources = Sources { flags: owned(&[("data", "off"), ("maxclients", "20")]), file: None, variables };
        let (config, warnings) = read(&sources).expect("they are no settings");
        assert_eq!(shown(&config, "port"), ("6379".into(), Source::Default));
        assert_eq!(shown(&config, "maxclients"), ("20".into(), Source::Flag));
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with("FLUX_PORT is passed over"), "{warnings:?}");
    }

    #[test]
    fn errors_name_the_place_and_guess_what_was_meant() {
        let sources = Sources { flags: owned(&[("data", "off"), ("max-memory", "1")]), ..Sources::default() };
        let error = read(&sources).err().expect("there is no such setting").to_string();
        assert_eq!(error, "--max-memory: there is no setting `max-memory`; did you mean `maxmemory`?");
        let sources = Sources { variables: owned(&[("FLUX_PORT", "x")]), ..Sources::default() };
        let error = read(&sources).err().expect("it is no port").to_string();
        assert_eq!(error, "FLUX_PORT: `port`: argument couldn't be parsed into an integer");
    }
}
