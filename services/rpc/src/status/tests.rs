//! Statuses as callers see them.

use super::*;
use coalition_proto::common::ErrorReason as R;

fn reasons() -> impl Iterator<Item = ErrorReason> {
    (0..1_000).filter_map(|number| ErrorReason::try_from(number).ok())
}

fn details_of(status: &Status) -> ErrorDetails {
    assert!(
        status.details().len() <= DETAILS_MAX_BYTES,
        "{} bytes",
        status.details().len()
    );
    status.get_error_details()
}

/// The code that the proto names for a reason, in brackets, in the comment above it.
fn documented_codes() -> Vec<(String, String)> {
    let proto = include_str!("../../../../proto/coalition/common/v1/errors.proto");
    let mut code = None;
    let mut found = Vec::new();
    for line in proto.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix("// [") {
            code = comment.split_once(']').map(|(code, _)| code.to_owned());
        } else if let Some(rest) = line.strip_prefix("ERROR_REASON_") {
            let name = rest.split_whitespace().next().unwrap_or_default();
            found.extend(code.take().map(|code| (name.to_owned(), code)));
        }
    }
    found
}

#[test]
fn the_table_and_the_proto_name_the_same_codes() {
    let documented = documented_codes();
    let named: Vec<_> = reasons()
        .filter(|reason| *reason != R::Unspecified)
        .collect();
    assert_eq!(
        documented.len(),
        named.len(),
        "a reason without its code in brackets"
    );
    for (name, code) in documented {
        let reason = ErrorReason::from_reason(&name).expect("a reason of the proto");
        let ours = format!("{:?}", reason::row(reason).code).to_lowercase();
        assert_eq!(ours, code.replace('_', "").to_lowercase(), "{name}");
    }
}

#[test]
fn every_status_says_why_and_unavailable_says_when() {
    for reason in reasons() {
        let status = Status::from(Problem::new(reason, "a message"));
        let details = details_of(&status);
        let info = details.error_info().expect("always");
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            (reason.as_reason(), "coalition")
        );
        let cashier = details
            .localized_message()
            .map(|text| text.message.as_str());
        assert_eq!(cashier, reason::row(reason).cashier);
        let retry = details.retry_info().is_some();
        assert_eq!(retry, status.code() == Code::Unavailable, "{reason:?}");
    }
}

#[test]
fn what_a_problem_carries_arrives() {
    let problem = Problem::new(R::QuotaExceeded, "slower")
        .with("transaction_id", "txn_1")
        .with_violation("points", "too many")
        .with_quota("ptr_1", "100 calls per second")
        .with_retry_after(Duration::from_secs(3));
    let details = details_of(&Status::from(problem));
    let info = details.error_info().expect("always");
    assert_eq!(
        info.metadata.get("transaction_id").map(String::as_str),
        Some("txn_1")
    );
    let quota = &details.quota_failure().expect("given").violations[0];
    assert_eq!(
        (quota.subject.as_str(), quota.description.as_str()),
        ("ptr_1", "100 calls per second")
    );
    assert_eq!(
        details.retry_info().expect("given").retry_delay,
        Some(Duration::from_secs(3))
    );
    assert_eq!(
        details.bad_request().expect("given").field_violations[0].field,
        "points"
    );
}

#[test]
fn the_text_of_an_underlying_error_stays_here() {
    let secret = || std::io::Error::other("password=hunter2 at 10.0.0.5");
    for problem in [
        Problem::internal(secret()),
        Problem::unavailable(secret()),
        Problem::new(R::PermissionDenied, "no").caused_by(secret()),
    ] {
        let status = Status::from(problem);
        let seen = format!("{status:?} {}", String::from_utf8_lossy(status.details()));
        assert!(
            !seen.contains("hunter2") && !seen.contains("10.0.0.5"),
            "{seen}"
        );
        let details = details_of(&status);
        let id = details
            .error_info()
            .expect("always")
            .metadata
            .get(CORRELATION_ID);
        assert!(id.is_some_and(|id| Uuid::try_parse(id).is_ok()), "{seen}");
    }
}

#[test]
fn details_stay_small_whatever_is_put_in() {
    let long = "ü".repeat(3_000);
    let violations: Vec<FieldViolation> = (0..1_000)
        .map(|i| FieldViolation {
            field: format!("f[{i}]"),
            description: "must be positive".into(),
        })
        .collect();
    let many = Status::from(Problem::from(violations));
    let listed = details_of(&many)
        .bad_request()
        .expect("some")
        .field_violations
        .len();
    assert!((1..=VIOLATIONS_MAX).contains(&listed), "{listed}");

    let problems = [
        Problem::new(R::Internal, long.clone()),
        Problem::invalid(long.clone(), long.clone()),
        Problem::new(R::NotFound, "x").with("k", long.clone()),
        Problem::new(R::NotFound, "x").with_quota(long.clone(), long.clone()),
        (0..500).fold(Problem::new(R::Internal, "x"), |p, _| {
            p.with_violation("f", long.clone())
        }),
    ];
    for problem in problems {
        let reason = problem.reason();
        let status = Status::from(problem);
        assert!(status.message().len() <= MESSAGE_MAX_BYTES);
        let details = details_of(&status);
        assert_eq!(
            details.error_info().expect("always").reason,
            reason.as_reason()
        );
        assert!(
            status
                .clone()
                .into_http::<()>()
                .headers()
                .contains_key(DETAILS_HEADER)
        );
    }
}

#[test]
fn trailers_hold_the_same_status() {
    let trailers = Problem::deadline_exceeded().into_trailers();
    assert_eq!(trailers.get(STATUS_HEADER).expect("a code"), "4");
    assert!(trailers.contains_key(DETAILS_HEADER));
}
