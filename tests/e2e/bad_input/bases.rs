//! A network with something of everything in it, and good requests of every RPC.
//!
//! Together the requests of one RPC set every field it has. What can be used once only (a request id,
//! a check, an earn to be reversed) is renewed before each call, unless it is what the call is about.

mod office;
mod till;

use std::sync::atomic::{AtomicU64, Ordering};

use coalition_proto::common::{Identifier, IdentifierType};
use coalition_proto::earn::EarnRequest;
use coalition_proto::member::EnrollRequest;
use coalition_proto::partner::{Agreement, ProposeAgreementRequest};
use coalition_proto::redeem::RedeemRequest;
use coalition_proto::sandbox::{AdvanceClockRequest, GetClockRequest, SetClockRequest};
use coalition_proto::settlement::{ComputeSettlementRequest, GetOpenWindowRequest, NettingMethod};
use coalition_tests::figures::{later, time};
use coalition_tests::network::START;
use coalition_tests::rpc::Rpc;
use coalition_tests::{Caller, Network, Partner, request_id, terms};
use prost::Message;
use prost_reflect::{DynamicMessage, ReflectMessage as _, Value};

use super::mutations::put;
use super::schema::{Schema, policy_of};

/// A good request.
pub(super) struct Base {
    /// `/coalition.earn.v1.EarnService/Earn`.
    pub(super) path: &'static str,
    pub(super) caller: Caller,
    /// The caller acts for this partner and no other. Empty: for the network.
    pub(super) own: String,
    pub(super) message: DynamicMessage,
    renew: &'static [Renew],
    /// Only fields below these are changed; all of them where there are none.
    pub(super) only: &'static [&'static str],
}

impl Base {
    /// The same of somebody who acts for this partner alone.
    fn of_partner(self, partner: &Partner) -> Self {
        Self {
            own: partner.id.clone(),
            ..self
        }
    }

    fn only(self, only: &'static [&'static str]) -> Self {
        Self { only, ..self }
    }
}

/// What has to be new in each call.
#[derive(Clone, Copy, Debug)]
enum Renew {
    /// `request_id`.
    Request,
    /// `context.check_id`.
    Check,
    /// `original_request_id`: something that was earned just now.
    Earned,
    /// `original_request_id`: something that was redeemed just now.
    Redeemed,
    /// `agreement_id` and `etag`: terms proposed just now.
    Proposal,
    /// `expected_window_id`: the open one.
    OpenWindow,
    /// `window_ids`: one closed just now.
    ClosedWindow,
    /// `code`: one that nobody has.
    Code,
    /// The values of `identifiers`: ones that nobody has.
    Identifiers,
    /// `time`: a second later than it is.
    Time,
}

use Renew as R;

const WRITE: &[Renew] = &[R::Request];
const TILL: &[Renew] = &[R::Request, R::Check];

/// What the requests speak of.
pub(super) struct World<'a> {
    network: &'a Network,
    schema: &'a Schema,
    pub(super) cafe: Partner,
    pub(super) deli: Partner,
    /// Where agreements come and go.
    scratch: Partner,
    pub(super) member: String,
    earned: EarnRequest,
    earned_id: String,
    spent: RedeemRequest,
    spent_id: String,
    /// Closed, the first with postings; two of them stay as they are.
    windows: Vec<String>,
    settlement: String,
    count: AtomicU64,
}

/// Points that the member has to begin with, and as many minor units.
const PLENTY: i64 = 1_000_000_000;

impl<'a> World<'a> {
    pub(super) async fn furnish(network: &'a Network, schema: &'a Schema) -> Self {
        let base = terms::settle_at_issue("EUR", "0.01", "0.008");
        let cafe = network.partner("cafe", base.clone()).await;
        let deli = network.partner("deli", base.clone()).await;
        let scratch = network.partner("scratch", base).await;
        let enroll = EnrollRequest {
            request_id: request_id(),
            identifiers: vec![card()],
        };
        let member = network.maker.ask(enroll).await.member_id;
        let earned = cafe.earning(&member, "big", PLENTY);
        let earned_id = cafe.till.ask(earned.clone()).await.transaction_id;
        let spent = cafe.redeeming(&member, "spent", PLENTY / 2);
        let spent_id = cafe.till.ask(spent.clone()).await.transaction_id;
        let mut windows = Vec::new();
        for round in 0..4 {
            cafe.earn(&member, &format!("w-{round}"), 1_000).await;
            deli.redeem(&member, &format!("s-{round}"), 100).await;
            let closed = network.cut().await.closed.expect("a window was closed");
            windows.push(closed.window_id);
        }
        let mut settlement = String::new();
        for window in windows.split_off(2) {
            let compute = ComputeSettlementRequest {
                request_id: request_id(),
                window_ids: vec![window],
                netting: NettingMethod::Multilateral.into(),
                validate_only: false,
            };
            let computed = network.maker.ask(compute).await.settlement;
            settlement = computed.expect("a settlement").settlement_id;
        }
        Self {
            network,
            schema,
            cafe,
            deli,
            scratch,
            member,
            earned,
            earned_id,
            spent,
            spent_id,
            windows,
            settlement,
            count: AtomicU64::new(0),
        }
    }

    /// Whether everything works as on the first day.
    pub(super) async fn still_serves(&self) {
        let check = self.next();
        let points = self.cafe.earn(&self.member, &check, 10).await.points_earned;
        assert_eq!(points, 10, "the network still serves");
    }

    fn next(&self) -> String {
        format!("n-{}", self.count.fetch_add(1, Ordering::Relaxed))
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "requests are written where they are handed over"
    )]
    fn base<M: Rpc + Message>(&self, caller: &Caller, message: M, renew: &'static [Renew]) -> Base {
        self.named(M::NAME, caller, &message, renew)
    }

    fn named<M: Message>(
        &self,
        name: &str,
        caller: &Caller,
        message: &M,
        renew: &'static [Renew],
    ) -> Base {
        let path = policy_of(name).method;
        let bytes = message.encode_to_vec();
        let message = DynamicMessage::decode(self.schema.request(path), bytes.as_slice());
        Base {
            path,
            caller: caller.clone(),
            own: String::new(),
            message: message.expect("the request of this RPC"),
            renew,
            only: &[],
        }
    }

    /// The base with everything new that may be used once; `touched` is what the call is about.
    pub(super) async fn renewed(&self, base: &Base, touched: &str) -> DynamicMessage {
        let mut message = base.message.clone();
        for renew in base.renew {
            self.renew(*renew, base, touched, &mut message).await;
        }
        message
    }

    async fn renew(&self, renew: Renew, base: &Base, touched: &str, to: &mut DynamicMessage) {
        let mut text = |path: &str, value: String| {
            if touched != path {
                put(to, path, Some(Value::String(value)));
            }
        };
        match renew {
            R::Request => text("request_id", request_id()),
            R::Check if touched != "context" => text("context.check_id", self.next()),
            R::Earned => {
                let request = EarnRequest {
                    partner_id: partner_id(&base.message),
                    ..self.cafe.earning(&self.member, &request_id(), 10)
                };
                base.caller.ask(request.clone()).await;
                text("original_request_id", request.request_id);
            }
            R::Redeemed => {
                let request = RedeemRequest {
                    partner_id: partner_id(&base.message),
                    ..self.cafe.redeeming(&self.member, &request_id(), 10)
                };
                base.caller.ask(request.clone()).await;
                text("original_request_id", request.request_id);
            }
            R::Proposal => {
                let proposed = self.proposed().await;
                text("agreement_id", proposed.agreement_id);
                text("etag", proposed.etag);
            }
            R::OpenWindow => {
                let open = self.network.viewer.ask(GetOpenWindowRequest {}).await;
                text(
                    "expected_window_id",
                    open.window.expect("one is open").window_id,
                );
            }
            R::ClosedWindow if !touched.starts_with("window_ids") => {
                let closed = self.network.cut().await.closed.expect("one was closed");
                let ids = vec![Value::String(closed.window_id)];
                put(to, "window_ids", Some(Value::List(ids)));
            }
            R::Code => text("code", self.next()),
            R::Identifiers if touched != "identifiers" => {
                for place in 0..2 {
                    text(&format!("identifiers[{place}].value"), self.next_card());
                }
            }
            R::Time if !touched.starts_with("time") => {
                let now = self.network.viewer.ask(GetClockRequest {}).await.time;
                let soon = later(&now.expect("a time"), 1);
                put(to, "time.seconds", Some(Value::I64(soon.seconds)));
            }
            // It is what the call is about.
            R::Check | R::ClosedWindow | R::Identifiers | R::Time => {}
        }
    }

    fn next_card(&self) -> String {
        format!("+49{:010}", self.count.fetch_add(1, Ordering::Relaxed))
    }

    async fn proposed(&self) -> Agreement {
        let request = ProposeAgreementRequest {
            request_id: request_id(),
            partner_id: self.scratch.id.clone(),
            terms: Some(terms::bare("EUR")),
            ..ProposeAgreementRequest::default()
        };
        let proposed = self.network.maker.ask(request).await.agreement;
        proposed.expect("the answer holds the agreement")
    }

    /// Good requests of every RPC but those that move the clock.
    pub(super) async fn bases(&self) -> Vec<Base> {
        let mut bases = self.earn();
        bases.extend(self.redeem());
        bases.extend(self.settlement().await);
        bases.extend(self.partners().await);
        bases.extend(self.members().await);
        bases
    }

    /// Good requests of the RPCs about the clock; the one that sets it comes last.
    pub(super) fn clock(&self) -> Vec<Base> {
        let maker = &self.network.maker;
        let advance = AdvanceClockRequest {
            request_id: request_id(),
            duration: Some(prost_types::Duration {
                seconds: 60,
                nanos: 500,
            }),
        };
        let set = SetClockRequest {
            request_id: request_id(),
            time: Some(prost_types::Timestamp {
                nanos: 500,
                ..time(START)
            }),
        };
        vec![
            self.base(maker, GetClockRequest {}, &[]),
            self.base(maker, advance, WRITE),
            self.base(maker, set, &[R::Request, R::Time]),
        ]
    }
}

/// What is changed where a request goes on from a page: another filter is another list.
const PAGE: &[&str] = &["page_size", "page_token"];

/// What the member shows.
fn card() -> Identifier {
    Identifier {
        r#type: IdentifierType::Card.into(),
        value: "9781234567890".to_owned(),
    }
}

/// The partner that a request names, if it has a field for one.
fn partner_id(message: &DynamicMessage) -> String {
    let field = message.descriptor().get_field_by_name("partner_id");
    let value = field.map(|field| message.get_field(&field).into_owned());
    let text = value.as_ref().and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}
