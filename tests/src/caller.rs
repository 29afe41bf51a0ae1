//! Somebody who calls the network, and what the network answers instead of what was asked for.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use coalition_proto::settlement::settlement_service_client::SettlementServiceClient;
use coalition_proto::settlement::{VerifyRequest, VerifyResponse};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::rpc::Rpc;

/// Somebody with a token, or without one; cheap to clone.
#[derive(Clone, Debug)]
pub struct Caller {
    channel: Channel,
    bearer: Option<MetadataValue<Ascii>>,
}

impl Caller {
    /// One who calls over this connection with this token.
    pub fn new(channel: Channel, token: Option<&str>) -> Self {
        let bearer = token.map(|token| {
            format!("Bearer {token}")
                .parse()
                .expect("a token is made of visible characters")
        });
        Self { channel, bearer }
    }

    /// Makes a call, once.
    ///
    /// # Errors
    ///
    /// What the network answered instead.
    pub async fn call<R: Rpc>(&self, request: R) -> Result<R::Answer, Refusal> {
        match R::send(self.channel.clone(), self.request(request)).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(Refusal::of(R::NAME, &status)),
        }
    }

    /// Makes a call that must succeed.
    pub async fn ask<R: Rpc>(&self, request: R) -> R::Answer {
        self.call(request)
            .await
            .unwrap_or_else(|refusal| panic!("{refusal}"))
    }

    /// Makes a call that must be refused.
    pub async fn refused<R: Rpc>(&self, request: R) -> Refusal {
        match self.call(request).await {
            Ok(answer) => panic!("{} should have been refused: {answer:?}", R::NAME),
            Err(refusal) => refusal,
        }
    }

    /// Has the network check its books.
    ///
    /// # Errors
    ///
    /// What the network answered instead.
    pub async fn verify(&self) -> Result<Streaming<VerifyResponse>, Refusal> {
        let answer = SettlementServiceClient::new(self.channel.clone())
            .verify(self.request(VerifyRequest {}))
            .await;
        match answer {
            Ok(stream) => Ok(stream.into_inner()),
            Err(status) => Err(Refusal::of("SettlementService/Verify", &status)),
        }
    }

    /// The connection, for calls that no generated client would make.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A request with this caller's token.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(bearer) = &self.bearer {
            request
                .metadata_mut()
                .insert("authorization", bearer.clone());
        }
        request
    }
}

/// A status that is not OK, taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Which RPC, as `EarnService/Earn`.
    pub method: String,
    /// The gRPC code.
    pub code: Code,
    /// `ErrorInfo.reason`; empty where there is none.
    pub reason: String,
    /// `ErrorInfo.domain`; empty where there is none.
    pub domain: String,
    /// `ErrorInfo.metadata`.
    pub metadata: HashMap<String, String>,
    /// For developers.
    pub message: String,
    /// What a cashier may be shown: language and text.
    pub cashier: Option<(String, String)>,
    /// When to come back.
    pub retry_after: Option<Duration>,
    /// Fields that break their rule, in order.
    pub fields: Vec<String>,
    /// Bytes of the details.
    pub details_bytes: usize,
}

impl Refusal {
    /// What this status says about a call of `method`.
    pub fn of(method: &str, status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let bad = details.bad_request();
        Self {
            method: method.to_owned(),
            code: status.code(),
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            domain: info.map(|info| info.domain.clone()).unwrap_or_default(),
            metadata: info.map(|info| info.metadata.clone()).unwrap_or_default(),
            message: status.message().to_owned(),
            cashier: details
                .localized_message()
                .map(|text| (text.locale.clone(), text.message.clone())),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            fields: bad
                .map(|bad| {
                    bad.field_violations
                        .iter()
                        .map(|field| field.field.clone())
                        .collect()
                })
                .unwrap_or_default(),
            details_bytes: status.details().len(),
        }
    }

    /// Checks code and reason, and what every refusal owes: the domain, details of bounded size.
    #[track_caller]
    pub fn assert(&self, code: Code, reason: &str) -> &Self {
        assert_eq!((self.code, self.reason.as_str()), (code, reason), "{self}");
        assert_eq!(self.domain, "coalition", "{self}");
        assert!(
            self.details_bytes < 4_096,
            "{} bytes of details: {self}",
            self.details_bytes
        );
        assert!(!self.message.is_empty(), "{self}");
        self
    }

    /// A decline by the books: what a till may show is there.
    #[track_caller]
    pub fn assert_declined(&self, reason: &str) -> &Self {
        self.assert(Code::FailedPrecondition, reason)
            .assert_cashier()
    }

    /// There is a text for the cashier: short, in English, without the words of machines.
    #[track_caller]
    pub fn assert_cashier(&self) -> &Self {
        let Some((locale, text)) = &self.cashier else {
            panic!("no text for the cashier: {self}");
        };
        assert!(locale.starts_with("en"), "{self}");
        assert!(
            (5..=120).contains(&text.len()) && !text.contains('_'),
            "{text:?}: {self}"
        );
        self
    }

    /// A fact in the metadata.
    #[track_caller]
    pub fn fact(&self, key: &str) -> &str {
        self.metadata
            .get(key)
            .unwrap_or_else(|| panic!("no {key} in the metadata: {self}"))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {:?} {}: {}",
            self.method, self.code, self.reason, self.message
        )?;
        write!(f, " {:?} {:?}", self.fields, self.metadata)
    }
}
