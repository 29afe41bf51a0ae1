//! What clients send and what they are told, in one shape for all kinds; and the same as the model's
//! commands.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use coalition_ledger::command::{
    Action, CheckAmounts, Command, Earn, Enroll, Fingerprint, Fund, Original, Redeem,
    RefundRedemption, RequestKey, ReturnEarn, Reverse,
};
use coalition_ledger::ids::{MemberId, TransactionId};
use coalition_ledger::money::{Minor, Points};
use coalition_ledger::transaction::{Context, Kind};
use coalition_proto::common::{Balance, Money, PosContext};
use coalition_proto::member::{EnrollRequest, EnrollResponse};
use coalition_proto::settlement::{FundingDirection, RecordFundingRequest, RecordFundingResponse};
use coalition_proto::{earn, redeem};
use coalition_tests::network::partner_id;
use coalition_tests::{Caller, Refusal};
use prost::Message as _;
use tonic::Code;
use uuid::Uuid;

use super::world::{Lane, Shop, currency, instant};

/// A request, of any kind that is remembered.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Enroll(EnrollRequest),
    Earn(earn::EarnRequest),
    ReturnEarn(earn::ReturnEarnRequest),
    ReverseEarn(earn::ReverseByReferenceRequest),
    Redeem(redeem::RedeemRequest),
    Refund(redeem::RefundRedemptionRequest),
    ReverseRedeem(redeem::ReverseByReferenceRequest),
    Fund(RecordFundingRequest),
}

/// What a client was told in the end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Enrolled(EnrollResponse),
    Earned(earn::EarnResponse),
    Returned(earn::ReturnEarnResponse),
    EarnReversed(earn::ReverseByReferenceResponse),
    Redeemed(redeem::RedeemResponse),
    Refunded(redeem::RefundRedemptionResponse),
    RedeemReversed(redeem::ReverseByReferenceResponse),
    Funded(RecordFundingResponse),
    Refused(Refusal),
}

/// What a call is meant to meet, where that is known before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    Anything,
    /// Amounts in a currency that is not the shop's.
    WrongCurrency,
    /// A time that nobody believes.
    FarOff,
    /// An original that never was.
    Stranger,
    /// The reversal of something of the other kind.
    WrongKind,
}

/// A call on its way.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    /// The shop's place, whose till sends it; of no meaning for operators' calls.
    pub(crate) shop: usize,
    pub(crate) call: Call,
    /// Whom it names, where it names anybody.
    pub(crate) member: Option<MemberId>,
    pub(crate) aim: Aim,
}

/// A call that was answered.
#[derive(Clone, Debug)]
pub(crate) struct Shot {
    pub(crate) draft: Draft,
    pub(crate) answer: Answer,
    /// When it was first sent, in microseconds since the run began.
    pub(crate) sent_us: u64,
    /// When it was answered for good.
    pub(crate) answered_us: u64,
    /// How often it was sent.
    pub(crate) attempts: u32,
}

impl Draft {
    pub(crate) fn request_id(&self) -> &str {
        match &self.call {
            Call::Enroll(call) => &call.request_id,
            Call::Earn(call) => &call.request_id,
            Call::ReturnEarn(call) => &call.request_id,
            Call::ReverseEarn(call) => &call.request_id,
            Call::Redeem(call) => &call.request_id,
            Call::Refund(call) => &call.request_id,
            Call::ReverseRedeem(call) => &call.request_id,
            Call::Fund(call) => &call.request_id,
        }
    }

    /// The request's name in the books.
    pub(crate) fn key(&self, shops: &[Shop]) -> RequestKey {
        let scope = match &self.call {
            Call::Enroll(_) | Call::Fund(_) => Uuid::nil(),
            _ => shops[self.shop].id.uuid(),
        };
        RequestKey {
            id: uuid(self.request_id()),
            scope,
        }
    }

    /// A digest of what it says.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let bytes = match &self.call {
            Call::Enroll(call) => call.encode_to_vec(),
            Call::Earn(call) => call.encode_to_vec(),
            Call::ReturnEarn(call) => call.encode_to_vec(),
            Call::ReverseEarn(call) => call.encode_to_vec(),
            Call::Redeem(call) => call.encode_to_vec(),
            Call::Refund(call) => call.encode_to_vec(),
            Call::ReverseRedeem(call) => call.encode_to_vec(),
            Call::Fund(call) => call.encode_to_vec(),
        };
        let mut hasher = DefaultHasher::new();
        (std::mem::discriminant(&self.call), bytes).hash(&mut hasher);
        u128::from(hasher.finish()).to_be_bytes()
    }

    /// Sends it, once.
    pub(crate) async fn send(&self, lane: &Lane) -> Answer {
        let till = &lane.tills[self.shop];
        match &self.call {
            Call::Enroll(call) => ask(&lane.maker, call, Answer::Enrolled).await,
            Call::Fund(call) => ask(&lane.maker, call, Answer::Funded).await,
            Call::Earn(call) => ask(till, call, Answer::Earned).await,
            Call::ReturnEarn(call) => ask(till, call, Answer::Returned).await,
            Call::ReverseEarn(call) => ask(till, call, Answer::EarnReversed).await,
            Call::Redeem(call) => ask(till, call, Answer::Redeemed).await,
            Call::Refund(call) => ask(till, call, Answer::Refunded).await,
            Call::ReverseRedeem(call) => ask(till, call, Answer::RedeemReversed).await,
        }
    }

    /// The same as a command of the ledger.
    pub(crate) fn command(&self, shops: &[Shop]) -> Command {
        let shop = &shops[self.shop];
        let partner = shop.id;
        let action = match &self.call {
            Call::Enroll(_) => Action::Enroll(Enroll {
                member: self.member.expect("who was enrolled"),
                identifiers: Vec::new(),
            }),
            Call::Earn(call) => {
                let amounts = call.amounts.as_ref().expect("a check has amounts");
                let part = |money: &Option<Money>| {
                    Minor::new(money.as_ref().map_or(0, |money| money.amount))
                };
                let gross = amounts.gross.as_ref().expect("a check has a gross");
                Action::Earn(Earn {
                    partner,
                    member: self.member.expect("who earns"),
                    amounts: CheckAmounts {
                        gross: part(&amounts.gross),
                        discounts: part(&amounts.discounts),
                        tax: part(&amounts.tax),
                        tip: part(&amounts.tip),
                        gift_card: part(&amounts.gift_card),
                        paid_with_points: part(&amounts.paid_with_points),
                    },
                    currency: currency(&gross.currency_code),
                    occurred_at: occurred_at(call.context.as_ref()),
                    context: context(call.context.as_ref()),
                })
            }
            Call::ReturnEarn(call) => {
                use earn::return_earn_request::Original as Named;
                let returned = call.returned.as_ref().expect("what came back");
                Action::ReturnEarn(ReturnEarn {
                    partner,
                    original: match call.original.as_ref().expect("an original") {
                        Named::OriginalTransactionId(id) => Original::Transaction(transaction(id)),
                        Named::OriginalCheckId(check) => Original::Check(check.clone()),
                    },
                    returned: Minor::new(returned.amount),
                    currency: currency(&returned.currency_code),
                    occurred_at: occurred_at(call.context.as_ref()),
                    context: context(call.context.as_ref()),
                })
            }
            Call::Redeem(call) => Action::Redeem(Redeem {
                partner,
                member: self.member.expect("who pays"),
                points: Points::new(call.points),
                check_total: call
                    .check_total
                    .as_ref()
                    .map(|total| (Minor::new(total.amount), currency(&total.currency_code))),
                occurred_at: occurred_at(call.context.as_ref()),
                context: context(call.context.as_ref()),
            }),
            Call::Refund(call) => {
                use redeem::refund_redemption_request::Original as Named;
                Action::RefundRedemption(RefundRedemption {
                    partner,
                    original: match call.original.as_ref().expect("an original") {
                        Named::OriginalTransactionId(id) => Original::Transaction(transaction(id)),
                        Named::OriginalCheckId(check) => Original::Check(check.clone()),
                    },
                    points: Points::new(call.points),
                    occurred_at: occurred_at(call.context.as_ref()),
                    context: context(call.context.as_ref()),
                })
            }
            Call::ReverseEarn(call) => Action::Reverse(Reverse {
                partner,
                kind: Kind::Earn,
                original_request: uuid(&call.original_request_id),
                occurred_at: occurred_at(call.context.as_ref()),
                context: context(call.context.as_ref()),
            }),
            Call::ReverseRedeem(call) => Action::Reverse(Reverse {
                partner,
                kind: Kind::Redeem,
                original_request: uuid(&call.original_request_id),
                occurred_at: occurred_at(call.context.as_ref()),
                context: context(call.context.as_ref()),
            }),
            Call::Fund(call) => {
                let amount = call.amount.as_ref().expect("how much");
                Action::Fund(Fund {
                    partner: partner_id(&call.partner_id),
                    withdrawal: call.direction() == FundingDirection::Withdrawal,
                    amount: Minor::new(amount.amount),
                    currency: currency(&amount.currency_code),
                    bank_reference: call.bank_reference.clone(),
                })
            }
        };
        Command {
            request: Some((self.key(shops), self.fingerprint())),
            action,
        }
    }
}

async fn ask<R: coalition_tests::rpc::Rpc>(
    caller: &Caller,
    call: &R,
    answer: impl Fn(R::Answer) -> Answer,
) -> Answer {
    match caller.call(call.clone()).await {
        Ok(told) => answer(told),
        Err(refusal) => Answer::Refused(refusal),
    }
}

fn occurred_at(context: Option<&PosContext>) -> Option<coalition_ledger::Timestamp> {
    context?.occurred_at.as_ref().map(instant)
}

fn context(context: Option<&PosContext>) -> Context {
    let check = context.map(|context| context.check_id.clone());
    Context {
        check_id: check.filter(|check| !check.is_empty()),
        ..Context::default()
    }
}

pub(crate) fn uuid(text: &str) -> Uuid {
    Uuid::parse_str(text).expect("a UUID")
}

pub(crate) fn transaction(text: &str) -> TransactionId {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

impl Answer {
    /// Whether the network only says that it did not get to it.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Refused(refusal)
            if matches!(refusal.code, Code::Unavailable | Code::DeadlineExceeded))
    }

    /// The transaction that records it: the posting, or the decline.
    pub(crate) fn record(&self) -> Option<TransactionId> {
        let id = match self {
            Self::Enrolled(_) => return None,
            Self::Earned(told) => &told.transaction_id,
            Self::Returned(told) => &told.transaction_id,
            Self::EarnReversed(told) => &told.transaction_id,
            Self::Redeemed(told) => &told.transaction_id,
            Self::Refunded(told) => &told.transaction_id,
            Self::RedeemReversed(told) => &told.transaction_id,
            Self::Funded(told) => &told.transaction_id,
            Self::Refused(refusal) => refusal.metadata.get("declined_transaction_id")?,
        };
        Some(transaction(id))
    }

    pub(crate) fn is_posted(&self) -> bool {
        !matches!(self, Self::Refused(_) | Self::Enrolled(_))
    }

    /// Why not, for what was refused without leaving a record.
    pub(crate) fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) if self.record().is_none() => Some(refusal),
            _ => None,
        }
    }

    pub(crate) fn is_replayed(&self) -> bool {
        match self {
            Self::Enrolled(told) => told.replayed,
            Self::Earned(told) => told.replayed,
            Self::Returned(told) => told.replayed,
            Self::EarnReversed(told) => told.replayed,
            Self::Redeemed(told) => told.replayed,
            Self::Refunded(told) => told.replayed,
            Self::RedeemReversed(told) => told.replayed,
            Self::Funded(told) => told.replayed,
            Self::Refused(refusal) => refusal
                .metadata
                .get("replayed")
                .is_some_and(|replayed| replayed == "true"),
        }
    }

    /// The window that it names.
    pub(crate) fn window(&self) -> Option<&str> {
        match self {
            Self::Earned(told) => Some(&told.window_id),
            Self::Returned(told) => Some(&told.window_id),
            Self::EarnReversed(told) => Some(&told.window_id),
            Self::Redeemed(told) => Some(&told.window_id),
            Self::Refunded(told) => Some(&told.window_id),
            Self::RedeemReversed(told) => Some(&told.window_id),
            Self::Enrolled(_) | Self::Funded(_) | Self::Refused(_) => None,
        }
    }

    pub(crate) fn balance(&self) -> Option<&Balance> {
        match self {
            Self::Earned(told) => told.balance.as_ref(),
            Self::Returned(told) => told.balance.as_ref(),
            Self::EarnReversed(told) => told.balance.as_ref(),
            Self::Redeemed(told) => told.balance.as_ref(),
            Self::Refunded(told) => told.balance.as_ref(),
            Self::RedeemReversed(told) => told.balance.as_ref(),
            Self::Enrolled(_) | Self::Funded(_) | Self::Refused(_) => None,
        }
    }

    /// What every answer to the same request has in common: all but the mark of a replay, and the
    /// headroom, which is that of the moment.
    pub(crate) fn lasting(&self) -> Self {
        let mut answer = self.clone();
        match &mut answer {
            Self::Enrolled(told) => told.replayed = false,
            Self::Earned(told) => told.replayed = false,
            Self::Returned(told) => told.replayed = false,
            Self::EarnReversed(told) => told.replayed = false,
            Self::Redeemed(told) => told.replayed = false,
            Self::Refunded(told) => told.replayed = false,
            Self::RedeemReversed(told) => told.replayed = false,
            Self::Funded(told) => {
                told.replayed = false;
                told.headroom = None;
            }
            Self::Refused(refusal) => {
                refusal.metadata.remove("replayed");
                // The mark is part of the details.
                refusal.details_bytes = 0;
            }
        }
        answer
    }
}

/// How many calls came to what.
pub(crate) fn figures(shots: &[Shot]) -> String {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut posted, mut replayed, mut again) = (0, 0, 0);
    for shot in shots {
        again += shot.attempts - 1;
        replayed += usize::from(shot.answer.is_replayed());
        match &shot.answer {
            Answer::Refused(refusal) => *reasons.entry(&refusal.reason).or_default() += 1,
            _ => posted += 1,
        }
    }
    let reasons = reasons
        .iter()
        .map(|(reason, count)| format!("{reason} {count}"));
    let reasons = reasons.collect::<Vec<_>>().join(", ");
    let all = shots.len();
    format!("{all} calls ({posted} done, {replayed} replayed, {again} sent again; {reasons})")
}
