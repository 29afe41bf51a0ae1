//! The development key on disk.

use super::*;

#[test]
fn it_is_made_once_with_tight_permissions_and_published() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let first = DevKey::open(&data, false).expect("made");
    let second = DevKey::open(&data, false).expect("loaded");
    assert_eq!(first.key_id(), second.key_id());
    assert!(first.key_id().starts_with(KEY_ID_PREFIX));

    let mode = fs::metadata(data.join(KEY_FILE))
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let jwks: serde_json::Value =
        serde_json::from_slice(&fs::read(data.join(JWKS_FILE)).expect("there")).expect("JSON");
    assert_eq!(jwks, first.jwks());
    assert!(
        !jwks.to_string().contains("\"d\""),
        "the private half is published"
    );
    let files = fs::read_dir(&data).expect("there").count();
    assert_eq!(files, 2, "something unfinished was left behind");
}

#[test]
fn several_processes_at_once_get_one_key() {
    let directory = tempfile::tempdir().expect("a directory");
    let ids: Vec<String> = std::thread::scope(|scope| {
        let opening: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| DevKey::open(directory.path(), false).expect("opened")))
            .collect();
        opening
            .into_iter()
            .map(|thread| thread.join().expect("no panic").key_id().to_owned())
            .collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn production_refuses_it_and_makes_none() {
    let directory = tempfile::tempdir().expect("a directory");
    let refused = DevKey::open(directory.path(), true);
    assert!(matches!(refused, Err(DevKeyError::Production)));
    assert_eq!(fs::read_dir(directory.path()).expect("there").count(), 0);
}

#[test]
fn a_key_that_others_can_read_or_that_is_none_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join(KEY_FILE);
    DevKey::open(directory.path(), false).expect("made");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("ours");
    let exposed = DevKey::open(directory.path(), false);
    assert!(
        matches!(exposed, Err(DevKeyError::Exposed { .. })),
        "{exposed:?}"
    );

    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
    for damage in [
        "",
        "nonsense",
        PEM_BEGIN,
        &format!("{PEM_BEGIN}\nAAAA\n{PEM_END}\n"),
    ] {
        fs::write(&path, damage).expect("ours");
        let damaged = DevKey::open(directory.path(), false);
        assert!(
            matches!(damaged, Err(DevKeyError::Damaged { .. })),
            "{damage:?}: {damaged:?}"
        );
    }
}
