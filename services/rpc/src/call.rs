//! What the layers know of a call: its method, its deadline, its caller.
//!
//! [`Recognise`] looks the path up and starts the [`Call`]; the layers further in complete it. It
//! travels in the request's extensions, from the gateway to the services of the same process too:
//! no header becomes part of it, so nothing that comes over a wire can pose as it.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use coalition_proto::common::ErrorReason;
use coalition_proto::policy::{self, Policy, QuotaClass};
use futures::future::{Either, Ready, ready};
use http::{Request, Response};
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::body::Body;
use tower::Service;

use crate::auth::identity::Identity;
use crate::deadline::Deadline;
use crate::status::Problem;

/// What unknown methods are called in logs and metrics, so that a stranger cannot make up names.
pub const UNKNOWN_METHOD: &str = "_OTHER";

/// Methods that are not ours and that anybody may call, and whether they answer with a stream.
const PUBLIC: [(&str, bool); 5] = [
    ("/grpc.health.v1.Health/Check", false),
    ("/grpc.health.v1.Health/List", false),
    ("/grpc.health.v1.Health/Watch", true),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        true,
    ),
    (
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        true,
    ),
];

static METHODS: LazyLock<HashMap<&'static str, Method>> = LazyLock::new(methods);

/// A method that calls are let through to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    path: &'static str,
    policy: Option<&'static Policy>,
    streaming: bool,
}

impl Method {
    /// The method with this path, as `/coalition.earn.v1.EarnService/Earn`.
    #[must_use]
    pub fn lookup(path: &str) -> Option<Self> {
        METHODS.get(path).copied()
    }

    /// The path.
    #[must_use]
    pub fn path(self) -> &'static str {
        self.path
    }

    /// The full name of the service, as `coalition.earn.v1.EarnService`.
    #[must_use]
    pub fn service(self) -> &'static str {
        service_name(self.path)
    }

    /// Who may call it; `None` for health and reflection, which anybody may call.
    #[must_use]
    pub fn policy(self) -> Option<&'static Policy> {
        self.policy
    }

    /// Whether it answers with a stream of messages.
    #[must_use]
    pub fn is_streaming(self) -> bool {
        self.streaming
    }

    /// The allowance its calls are counted against.
    #[must_use]
    pub fn quota(self) -> QuotaClass {
        self.policy.map_or(QuotaClass::Read, |policy| policy.quota)
    }
}

/// The full name of the service in a path; empty if the path has no such part.
#[must_use]
pub fn service_name(path: &str) -> &str {
    path.strip_prefix('/')
        .and_then(|rest| rest.split_once('/'))
        .map_or("", |(service, _)| service)
}

/// A call on its way in.
#[derive(Clone, Debug)]
pub struct Call {
    pub(crate) method: Method,
    pub(crate) deadline: Option<Deadline>,
    pub(crate) identity: Option<Arc<Identity>>,
}

impl Call {
    /// The method called.
    #[must_use]
    pub fn method(&self) -> Method {
        self.method
    }

    /// When the caller stops waiting.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        self.deadline
    }

    /// Who is calling, as a verified token says; `None` for methods that anybody may call.
    #[must_use]
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }
}

/// The layer that looks up the method. Answers UNIMPLEMENTED for those that do not exist.
#[derive(Clone, Debug)]
pub struct Recognise<S> {
    inner: S,
}

impl<S> Recognise<S> {
    /// Wraps a service.
    pub fn new(inner: S) -> Self {
        Self { inner }
    }
}

/// A future that either answers at once or waits for the service within.
pub(crate) type Answer<F> = Either<Ready<Result<Response<Body>, Infallible>>, F>;

/// The answer to a call that goes no further in.
pub(crate) fn refuse<F>(problem: Problem) -> Answer<F> {
    Either::Left(ready(Ok(problem.into_http())))
}

impl<S> Service<Request<Body>> for Recognise<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Some(method) = Method::lookup(request.uri().path()) else {
            return refuse(Problem::new(
                ErrorReason::UnknownMethod,
                "there is no such method",
            ));
        };
        request.extensions_mut().insert(Call {
            method,
            deadline: None,
            identity: None,
        });
        Either::Right(self.inner.call(request))
    }
}

fn methods() -> HashMap<&'static str, Method> {
    let streaming = streaming_paths();
    let ours = policy::all().iter().map(|policy| Method {
        path: policy.method,
        policy: (!policy.public).then_some(policy),
        streaming: streaming.contains(policy.method),
    });
    let public = PUBLIC.iter().map(|&(path, streaming)| Method {
        path,
        policy: None,
        streaming,
    });
    ours.chain(public)
        .map(|method| (method.path, method))
        .collect()
}

/// The paths of our methods that answer with a stream. A descriptor set that does not decode would
/// be a broken build; a test sees that it does.
fn streaming_paths() -> HashSet<String> {
    let set = FileDescriptorSet::decode(coalition_proto::FILE_DESCRIPTOR_SET).unwrap_or_default();
    let mut paths = HashSet::new();
    for file in &set.file {
        for service in &file.service {
            for method in service
                .method
                .iter()
                .filter(|method| method.server_streaming())
            {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                paths.insert(path);
            }
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rpc_of_the_protos_is_known_and_verify_alone_streams() {
        for policy in policy::all() {
            let method = Method::lookup(policy.method).expect("a method with a policy is known");
            assert_eq!(
                method.is_streaming(),
                policy.method.ends_with("/Verify"),
                "{method:?}"
            );
        }
    }

    #[test]
    fn row_44_unknown_methods_are_not_known() {
        for path in [
            "",
            "/",
            "/x",
            "/coalition.earn.v1.EarnService/",
            "/a/b",
            "//",
            "earn",
        ] {
            assert_eq!(Method::lookup(path), None, "{path}");
        }
        assert_eq!(
            service_name("/coalition.earn.v1.EarnService/Earn"),
            "coalition.earn.v1.EarnService"
        );
        assert_eq!(service_name("nonsense"), "");
    }
}
