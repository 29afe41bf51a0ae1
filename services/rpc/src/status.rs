//! Problems, and how one becomes a gRPC status. No other file of the workspace makes a status.
//!
//! A handler returns a [`Problem`]: a typed reason with what belongs to it. Code, cashier's text and
//! details follow from the table in [`reason`] and from what the problem carries (AIP-193). The text
//! of an underlying error never leaves: it is logged here, once, under a correlation id, and the id
//! is what the caller gets.

mod ledger;
mod normalise;
pub mod reason;

pub(crate) use self::ledger::reason_of;
pub use self::ledger::{Recorded, recorded};
pub use self::normalise::Normalise;

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use coalition_proto::common::ErrorReason;
use coalition_proto::validate::FieldViolation;
use http::{HeaderMap, HeaderValue, Response};
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use uuid::Uuid;

/// The `domain` of every `ErrorInfo`.
pub const ERROR_DOMAIN: &str = "coalition";

/// The metadata key under which a caller finds what to quote to support.
pub const CORRELATION_ID: &str = "correlation_id";

/// Most bytes that the details of one status may take: larger ones break the response at clients
/// with default header limits.
pub const DETAILS_MAX_BYTES: usize = 4 * 1024;

/// Most bytes of the developer's message; it is percent-encoded, so it may triple on the wire.
const MESSAGE_MAX_BYTES: usize = 512;

/// Most violations that are listed; a caller who sees this many has more to fix than the list.
const VIOLATIONS_MAX: usize = 20;

/// What `RetryInfo` says where the code is UNAVAILABLE and nothing better is known.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_millis(200);

const DETAILS_HEADER: &str = "grpc-status-details-bin";
const STATUS_HEADER: &str = "grpc-status";

/// Why a call does not get what it asked for.
#[derive(Debug)]
pub struct Problem(Box<Inner>);

#[derive(Debug)]
struct Inner {
    reason: ErrorReason,
    message: Cow<'static, str>,
    violations: Vec<FieldViolation>,
    quota: Option<(String, String)>,
    retry_after: Option<Duration>,
    metadata: Vec<(&'static str, String)>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Problem {
    /// A problem with this reason. `message` is for developers, in English, and holds neither
    /// personal data nor the text of an underlying error.
    #[must_use]
    pub fn new(reason: ErrorReason, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            reason,
            message: message.into(),
            violations: Vec::new(),
            quota: None,
            retry_after: None,
            metadata: Vec::new(),
            source: None,
        }))
    }

    /// A fault of ours. The source is logged, with everything under it, and not shown.
    #[must_use]
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(
            ErrorReason::Internal,
            "internal error; quote the correlation id to support",
        )
        .caused_by(source)
    }

    /// Something needed for the call cannot be reached just now; the same call may be sent again.
    /// The source is logged and not shown.
    #[must_use]
    pub fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(
            ErrorReason::Unavailable,
            "not available just now; retry with the same request_id",
        )
        .caused_by(source)
    }

    /// The time given ran out.
    #[must_use]
    pub fn deadline_exceeded() -> Self {
        Self::new(
            ErrorReason::DeadlineExceeded,
            "the deadline passed; the outcome is unknown, retry with the same request_id",
        )
    }

    /// The caller is not known. The message says no more than what the caller can see for itself.
    #[must_use]
    pub fn unauthenticated(message: &'static str) -> Self {
        Self::new(ErrorReason::Unauthenticated, message)
    }

    /// The caller may not do this, or what it named is somebody else's or does not exist: one text
    /// for all three, so that the answer tells nothing.
    #[must_use]
    pub fn permission_denied() -> Self {
        Self::new(
            ErrorReason::PermissionDenied,
            "not allowed, or no such thing for this caller",
        )
    }

    /// One field breaks its rule. `field` is the path in the request, as `context.check_id`.
    #[must_use]
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::from(vec![FieldViolation {
            field: field.into(),
            description: description.into(),
        }])
    }

    /// Adds a fact for programs to `ErrorInfo.metadata`, as `transaction_id`.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.0.metadata.push((key, value.into()));
        self
    }

    /// Adds a field that breaks its rule to `BadRequest`.
    #[must_use]
    pub fn with_violation(
        mut self,
        field: impl Into<String>,
        description: impl Into<String>,
    ) -> Self {
        self.0.violations.push(FieldViolation {
            field: field.into(),
            description: description.into(),
        });
        self
    }

    /// Names the field at fault as this call has it, where the reason is this one: what the books
    /// refuse, they name as commands have it.
    #[must_use]
    pub fn blame(mut self, reason: ErrorReason, field: impl Into<String>) -> Self {
        if self.0.reason == reason {
            let field = field.into();
            for violation in &mut self.0.violations {
                violation.field.clone_from(&field);
            }
        }
        self
    }

    /// Names the allowance that is used up in `QuotaFailure`: whose (`subject`), and which.
    #[must_use]
    pub fn with_quota(
        mut self,
        subject: impl Into<String>,
        description: impl Into<String>,
    ) -> Self {
        self.0.quota = Some((subject.into(), description.into()));
        self
    }

    /// Says in `RetryInfo` how long to wait.
    #[must_use]
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// Keeps the underlying error for the log.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The reason.
    #[must_use]
    pub fn reason(&self) -> ErrorReason {
        self.0.reason
    }

    /// The developer's message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The gRPC code that goes with the reason.
    #[must_use]
    pub fn code(&self) -> Code {
        reason::row(self.0.reason).code
    }

    /// The answer to a call that fails before a handler sees it: a response of headers alone.
    #[must_use]
    pub fn into_http(self) -> Response<Body> {
        Status::from(self).into_http()
    }

    /// The trailers that end a response which has begun already.
    #[must_use]
    pub fn into_trailers(self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        if Status::from(self).add_header(&mut trailers).is_err() {
            // A message that is no header value; percent-encoding makes this unreachable, and the
            // code alone is still the right answer.
            trailers.insert(STATUS_HEADER, HeaderValue::from(Code::Internal as i32));
        }
        trailers
    }
}

impl From<Vec<FieldViolation>> for Problem {
    fn from(violations: Vec<FieldViolation>) -> Self {
        let message = match violations.first() {
            Some(first) => Cow::Owned(format!("{}: {}", first.field, first.description)),
            None => Cow::Borrowed("the request is not valid"),
        };
        let mut problem = Self::new(ErrorReason::InvalidArgument, message);
        problem.0.violations = violations;
        problem
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.reason.as_reason(), self.0.message)
    }
}

impl Error for Problem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}

impl From<Problem> for Status {
    fn from(mut problem: Problem) -> Self {
        if let Some(source) = problem.0.source.take() {
            let correlation_id = Uuid::new_v4().to_string();
            log_chain(&problem, source.as_ref(), &correlation_id);
            problem.0.metadata.push((CORRELATION_ID, correlation_id));
        }
        let code = problem.code();
        let message = truncated(&problem.0.message, MESSAGE_MAX_BYTES);
        let mut listed = problem.0.violations.len().min(VIOLATIONS_MAX);
        loop {
            let details = details(&problem.0, listed);
            let status = Status::with_error_details(code, message, details);
            if status.details().len() <= DETAILS_MAX_BYTES {
                return status;
            }
            if listed == 0 {
                // Not the violations but the metadata is too long: the reason alone says enough.
                return Status::with_error_details(code, message, bare_details(problem.0.reason));
            }
            listed /= 2;
        }
    }
}

/// What a handler sees of a request body that breaks off: the library's own reading of the cause, so
/// that a caller who went away is CANCELLED and not a fault of ours.
pub(crate) fn broken_transport(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Status {
    Status::from_error(cause.into())
}

/// The answer to a message above the size limit.
pub(crate) fn too_large_problem() -> Problem {
    Problem::new(
        ErrorReason::MessageTooLarge,
        "the request message is larger than 256 KiB",
    )
}

fn details(inner: &Inner, listed: usize) -> ErrorDetails {
    let mut details = bare_details(inner.reason);
    let metadata: std::collections::HashMap<String, String> = inner
        .metadata
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect();
    details.set_error_info(inner.reason.as_reason(), ERROR_DOMAIN, metadata);
    for violation in inner.violations.iter().take(listed) {
        details.add_bad_request_violation(&violation.field, &violation.description);
    }
    if let Some((subject, description)) = &inner.quota {
        details.add_quota_failure_violation(subject, description);
    }
    if let Some(delay) = inner.retry_after {
        details.set_retry_info(Some(delay));
    }
    details
}

/// What follows from the reason alone.
fn bare_details(reason: ErrorReason) -> ErrorDetails {
    let row = reason::row(reason);
    let mut details = ErrorDetails::new();
    details.set_error_info(reason.as_reason(), ERROR_DOMAIN, []);
    if row.code == Code::Unavailable {
        details.set_retry_info(Some(RETRY_AFTER_DEFAULT));
    }
    if let Some(text) = row.cashier {
        details.set_localized_message("en", text);
    }
    details
}

fn log_chain(problem: &Problem, source: &(dyn Error + 'static), correlation_id: &str) {
    let mut chain = source.to_string();
    let mut next = source.source();
    while let Some(error) = next {
        chain.push_str(": ");
        chain.push_str(&error.to_string());
        next = error.source();
    }
    let reason = problem.0.reason.as_reason();
    if problem.code() == Code::Internal {
        tracing::error!(correlation_id, reason, error = %chain, "a call failed");
    } else {
        tracing::warn!(correlation_id, reason, error = %chain, "a call could not be served");
    }
}

fn truncated(text: &str, max_bytes: usize) -> &str {
    let mut end = text.len().min(max_bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests;
