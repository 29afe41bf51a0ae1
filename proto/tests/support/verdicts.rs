//! What the tests of the field rules say about a request.

use coalition_proto::validate::{Validate, check};

pub(crate) fn passes<M: Validate>(request: &M) {
    assert_eq!(check(request), Ok(()));
}

/// `expected`: path and description of every violation, in order.
pub(crate) fn refuses<M: Validate>(request: &M, expected: &[&str]) {
    let found: Vec<_> = check(request)
        .expect_err("the request breaks a rule")
        .into_iter()
        .map(|violation| format!("{} {}", violation.field, violation.description))
        .collect();
    assert_eq!(found, expected);
}
