//! Where settings come from: a file, then the environment, then flags, each overriding the one
//! before.
//!
//! Every layer is held against [`Config`] by itself first, which is possible because everything has
//! a default: an error then says in which file, variable or flag it is. A variable `COALITION_LOG_FORMAT`
//! is the setting `format` of the section `log`.

use std::path::{Path, PathBuf};

use figment::error::Kind;
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Value};
use figment::{Figment, Provider};
use serde::Serialize;

use super::{Config, LogFormat, Mode};

/// What the names of our environment variables begin with.
pub const PREFIX: &str = "COALITION_";

/// Variables that begin like that and are not settings: the file's place, and what tests use.
const NOT_SETTINGS: [&str; 2] = ["CONFIG", "TEST_"];

/// Sections of the file; a variable with such a name in front is a setting of that section.
const SECTIONS: [&str; 6] = ["network", "auth", "keys", "upstreams", "limits", "log"];

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file, or it cannot be read.
    #[error("cannot read the configuration file {path}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// One of the layers says something that cannot be.
    #[error("{place}: {problem}")]
    Setting {
        /// Which file and setting, variable, or flag.
        place: String,
        /// What is wrong, and what is allowed.
        problem: String,
    },
}

/// What flags say; unset ones leave what environment and file say.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Flags {
    /// `--mode`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// `--data-dir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// `--database-url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_url: Option<String>,
    /// `--listen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<std::net::SocketAddr>,
    /// `--log-…`.
    pub log: LogFlags,
}

/// What the flags about the log say.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LogFlags {
    /// `--log-format`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<LogFormat>,
    /// `--log-filter`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// The three layers.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// The file.
    pub file: Option<PathBuf>,
    /// Environment variables, ours and others.
    pub environment: Vec<(String, String)>,
    /// The flags.
    pub flags: Flags,
}

#[derive(Clone, Copy)]
enum Layer<'a> {
    File(&'a Path),
    Environment,
    Flags,
}

impl Layers {
    /// The configuration that they add up to.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a layer holds a setting that does not exist or a value that is
    /// not allowed.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let mut all = Figment::new();
        if let Some(path) = &self.file {
            let text = std::fs::read_to_string(path).map_err(|source| ConfigError::File {
                path: path.clone(),
                source,
            })?;
            all = Layer::File(path).over(all, &Toml::string(&text))?;
        }
        let environment = Serialized::defaults(self.variables());
        all = Layer::Environment.over(all, &environment)?;
        all = Layer::Flags.over(all, &Serialized::defaults(&self.flags))?;
        // Each layer was good by itself, and merging replaces whole values.
        all.extract().map_err(|error| Layer::Flags.explain(&error))
    }

    /// Our environment variables, by section.
    fn variables(&self) -> Dict {
        let mut settings = Dict::new();
        for (name, text) in &self.environment {
            let Some(name) = name.strip_prefix(PREFIX) else {
                continue;
            };
            if NOT_SETTINGS.iter().any(|other| name.starts_with(other)) {
                continue;
            }
            let name = name.to_ascii_lowercase();
            let value = || -> Value { typed(text) };
            let section = SECTIONS.iter().find_map(|section| {
                let rest = name.strip_prefix(section)?.strip_prefix('_')?;
                Some((*section, rest))
            });
            match section {
                None => {
                    settings.insert(name, value());
                }
                Some((section, rest)) => {
                    let within = settings
                        .entry(section.to_owned())
                        .or_insert_with(|| Value::from(Dict::new()));
                    if let Value::Dict(_, within) = within {
                        within.insert(rest.to_owned(), value());
                    }
                }
            }
        }
        settings
    }
}

/// The value that a variable's text stands for: tables, lists, numbers and truth values as in the
/// file, anything else as it is.
fn typed(text: &str) -> Value {
    // Parsing never fails: what is nothing else is a text.
    text.parse()
        .unwrap_or_else(|never: std::convert::Infallible| match never {})
}

impl Layer<'_> {
    /// Puts a layer on top of those before, if it is good by itself.
    fn over(self, below: Figment, layer: &impl Provider) -> Result<Figment, ConfigError> {
        Figment::from(layer)
            .extract::<Config>()
            .map_err(|error| self.explain(&error))?;
        Ok(below.merge(layer))
    }

    fn explain(self, error: &figment::Error) -> ConfigError {
        let problem = match &error.kind {
            Kind::UnknownField(_, known) => {
                format!("there is no such setting; there are: {}", known.join(", "))
            }
            Kind::UnknownVariant(given, known) => {
                format!("{given:?} is not one of: {}", known.join(", "))
            }
            other => other.to_string(),
        };
        ConfigError::Setting {
            place: self.place(&error.path),
            problem,
        }
    }

    fn place(self, path: &[String]) -> String {
        match self {
            Self::File(file) if path.is_empty() => file.display().to_string(),
            Self::File(file) => format!("{}, {}", file.display(), path.join(".")),
            Self::Environment => format!("{PREFIX}{}", path.join("_").to_ascii_uppercase()),
            Self::Flags => format!("--{}", path.join("-").replace('_', "-")),
        }
    }
}
