//! Layers, the sample, and what must not show.

use std::fs;
use std::path::Path;

use super::layers::{Flags, LogFlags};
use super::*;

const SAMPLE: &str = include_str!("../../coalition.example.toml");
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn environment(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn from_environment(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Layers {
        environment: environment(variables),
        ..Layers::default()
    }
    .load()
}

/// The configuration of a file with this text.
fn from_file(text: &str) -> Result<Config, ConfigError> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("coalition.toml");
    fs::write(&path, text).expect("written");
    Layers {
        file: Some(path),
        ..Layers::default()
    }
    .load()
}

fn refusal(config: Result<Config, ConfigError>) -> String {
    config.expect_err("refused").to_string()
}

#[test]
fn nothing_configured_is_the_default() {
    assert_eq!(from_environment(&[]).expect("loads"), Config::default());
    // Variables of others, and those of ours that are no settings, are nobody's business here.
    let others = [
        ("HOME", "/root"),
        ("COALITION_CONFIG", "x.toml"),
        ("COALITION_TEST_DATABASE_URL", "postgres://a/b"),
    ];
    assert_eq!(from_environment(&others).expect("loads"), Config::default());
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("coalition.toml");
    let text = "data_dir = '/file'\nmode = 'production'\n[log]\nformat = 'json'\nfilter = 'file'\n\
                [limits]\ncalls = 1";
    fs::write(&file, text).expect("written");
    let layers = Layers {
        file: Some(file),
        environment: environment(&[
            ("COALITION_DATA_DIR", "/environment"),
            ("COALITION_LOG_FILTER", "environment"),
            ("COALITION_LIMITS_CALLS", "2"),
        ]),
        flags: Flags {
            data_dir: Some("/flag".into()),
            log: LogFlags {
                format: Some(LogFormat::Text),
                filter: None,
            },
            ..Flags::default()
        },
    };
    let config = layers.load().expect("loads");
    assert_eq!(config.mode, Mode::Production, "by the file");
    assert_eq!(config.limits.calls, 2, "by the environment");
    assert_eq!(config.log.filter.as_deref(), Some("environment"));
    assert_eq!(config.data_dir, Path::new("/flag"), "by the flag");
    assert_eq!(
        config.log.format,
        LogFormat::Text,
        "by the flag, its neighbour untouched"
    );
    assert_eq!(
        config.limits.connections, CONNECTIONS_MAX_DEFAULT,
        "by nobody"
    );
}

#[test]
fn the_sample_says_the_defaults_and_names_every_setting() {
    assert_eq!(from_file(SAMPLE).expect("loads"), Config::default());

    // With what stands in comments, too: nothing there is misspelt, and everything is there.
    let complete: String = SAMPLE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest)
                if rest
                    .split_once(" = ")
                    .is_some_and(|(name, _)| !name.contains(' ')) =>
            {
                rest
            }
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let complete = complete.replace("64 hexadecimal digits", KEY);
    let config = from_file(&complete).expect("loads");
    assert!(config.database_url.is_some() && config.listen.is_some());
    assert!(config.reflection.is_some() && config.auth.jwks.is_some());
    assert!(config.keys.identifier.is_some() && config.keys.page_token.is_some());
    assert!(config.log.filter.is_some());
}

#[test]
fn every_setting_can_be_a_variable() {
    let config = from_environment(&[
        ("COALITION_MODE", "production"),
        ("COALITION_DATABASE_URL", "postgres://u@h/d"),
        ("COALITION_LISTEN", "127.0.0.1:0"),
        ("COALITION_REFLECTION", "true"),
        (
            "COALITION_NETWORK_FACE_VALUES",
            r#"{EUR = "0.01", USD = "0.005"}"#,
        ),
        ("COALITION_AUTH_ISSUER", "https://login.example.com"),
        ("COALITION_AUTH_JWKS", "https://login.example.com/jwks.json"),
        ("COALITION_KEYS_IDENTIFIER", KEY),
        ("COALITION_KEYS_PAGE_TOKEN", KEY),
        (
            "COALITION_UPSTREAMS_EARN",
            "http://10.0.0.7:7401, http://10.0.0.8:7401",
        ),
        ("COALITION_UPSTREAMS_REDEEM", r#"["http://10.0.0.9:7402"]"#),
        ("COALITION_LIMITS_SWEEP_INTERVAL_S", "5"),
    ])
    .expect("loads");
    assert!(config.production());
    assert_eq!(config.listen.map(|address| address.port()), Some(0));
    assert_eq!(config.reflection, Some(true));
    let worth = Decimal::new(5, 3);
    assert_eq!(
        config.network.face_values.get(1),
        Some(&(Currency::USD, worth))
    );
    assert_eq!(
        config.upstreams.earn,
        ["http://10.0.0.7:7401", "http://10.0.0.8:7401"]
    );
    assert_eq!(config.upstreams.redeem, ["http://10.0.0.9:7402"]);
    assert_eq!(
        config.upstreams.network,
        Config::default().upstreams.network
    );
    assert!(matches!(config.auth.key_source(), Some(KeySource::Url(_))));
    assert_eq!(config.limits.sweep_interval_s, 5);
}

#[test]
fn what_is_not_a_setting_is_refused_by_name_and_place() {
    let text = refusal(from_file("data_dri = 'x'"));
    assert!(
        text.contains("coalition.toml, data_dri: there is no such setting"),
        "{text}"
    );
    assert!(
        text.contains("data_dir"),
        "does not say what there is: {text}"
    );

    let text = refusal(from_file("[log]\nformt = 'json'"));
    assert!(text.contains("coalition.toml, log.formt: "), "{text}");

    let text = refusal(from_environment(&[("COALITION_LOG_FORMT", "json")]));
    assert!(
        text.starts_with("COALITION_LOG_FORMT: there is no such setting"),
        "{text}"
    );
    let text = refusal(from_environment(&[("COALITION_DATADIR", "x")]));
    assert!(
        text.starts_with("COALITION_DATADIR: there is no such setting"),
        "{text}"
    );
}

#[test]
fn what_is_not_allowed_is_refused_with_what_is() {
    let rows = [
        ("COALITION_LOG_FORMAT", "xml", "auto, text, json"),
        ("COALITION_MODE", "test", "sandbox, production"),
        ("COALITION_LIMITS_CALLS", "many", "usize"),
        ("COALITION_LISTEN", "7400", "socket address"),
        ("COALITION_NETWORK_FACE_VALUES", "{EUR = 0.01}", "string"),
        (
            "COALITION_NETWORK_FACE_VALUES",
            r#"{EUR = "1e-2"}"#,
            "positive decimal such as 0.01",
        ),
        (
            "COALITION_NETWORK_FACE_VALUES",
            r#"{EUR = "-1"}"#,
            "positive decimal",
        ),
        (
            "COALITION_NETWORK_FACE_VALUES",
            r#"{EURO = "1"}"#,
            "ISO 4217",
        ),
        (
            "COALITION_NETWORK_FACE_VALUES",
            "{}",
            "at least one currency",
        ),
        ("COALITION_DATABASE_URL", "mysql://h/d", "postgres://"),
        (
            "COALITION_KEYS_IDENTIFIER",
            "short",
            "64 hexadecimal digits",
        ),
    ];
    for (name, value, allowed) in rows {
        let text = refusal(from_environment(&[(name, value)]));
        assert!(text.starts_with(name), "{name}={value}: {text}");
        assert!(text.contains(allowed), "{name}={value}: {text}");
    }
    let text = refusal(from_file("mode = \"sandbox\nlisten = 1"));
    assert!(text.contains("coalition.toml"), "{text}");
    let missing = Layers {
        file: Some("/nowhere/at.toml".into()),
        ..Layers::default()
    };
    let text = refusal(missing.load());
    assert!(text.contains("/nowhere/at.toml"), "{text}");
}

#[test]
fn secrets_do_not_show() {
    let secret = "hunter2";
    let config = from_environment(&[
        ("COALITION_KEYS_IDENTIFIER", KEY),
        ("COALITION_KEYS_PAGE_TOKEN", KEY),
        (
            "COALITION_DATABASE_URL",
            "postgres://coalition:hunter2@db:5432/books?password=hunter2",
        ),
    ])
    .expect("loads");
    let shown = format!("{config:?} {}", config.database());
    assert!(
        !shown.contains(secret) && !shown.contains("0011223344"),
        "{shown}"
    );
    assert!(shown.contains("postgres://db:5432/books"), "{shown}");
    assert!(
        config.database().as_str().contains(secret),
        "the database needs it"
    );

    // Nor in the error about a value that is none.
    for (name, value) in [
        ("COALITION_KEYS_IDENTIFIER", "hunter2"),
        ("COALITION_DATABASE_URL", "mysql://u:hunter2@h/d"),
    ] {
        let text = refusal(from_environment(&[(name, value)]));
        assert!(!text.contains(secret), "{text}");
    }
    let odd = DatabaseUrl::from("postgres://u:p@ss@h:5432/d".to_owned());
    assert_eq!(odd.to_string(), "postgres://h:5432/d");
}

#[test]
fn a_key_has_one_form() {
    let key = Secret::from_hex(KEY).expect("a key");
    assert_eq!(key.to_hex(), KEY);
    assert_eq!(Secret::from_hex(&KEY.to_uppercase()), Some(key));
    for none in [
        "",
        "00",
        &KEY[1..],
        &format!("{KEY}00"),
        &KEY.replace('f', "g"),
        &KEY.replace("ff", "é"),
    ] {
        assert_eq!(Secret::from_hex(none), None, "{none}");
    }
}
