//! A network to put load on, and the calls that make it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::ensure;
use coalition_ledger::ids::{PartnerId, Party};
use coalition_ledger::{Clock, Timestamp};
use coalition_proto::common::{IdentifierType, Money, PosContext};
use coalition_proto::earn::{CheckAmounts, EarnRequest, earn_request};
use coalition_proto::partner::terms::Preset;
use coalition_proto::partner::{Funder, PartnerKind, SettleAtIssue, SettleAtRedemption, Terms};
use coalition_proto::redeem::{
    RedeemRequest, RefundRedemptionRequest, redeem_request, refund_redemption_request,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use uuid::Uuid;

use super::load;
use crate::client::setup::{NewPartner, Registrar};
use crate::client::{CallError, Caller, Client, RequestIds, Who};

/// Partners taken in at once, and members.
const PARTNERS_IN_FLIGHT: usize = 16;
const MEMBERS_IN_FLIGHT: usize = 256;

/// Who funds the points of the joint promotion: three issuers, a lot of each.
pub(super) const FUNDERS: usize = 3;

/// What a check comes to, in cents; at one point per euro, thirty points.
const CHECK_MINOR: i64 = 3_000;
const CHECK_POINTS: i64 = 30;

/// A furnished network.
#[derive(Clone)]
pub(super) struct Town {
    client: Client,
    partners: Arc<Vec<PartnerId>>,
    /// A partner whose points three others fund in equal parts.
    joint: PartnerId,
    members: Arc<Vec<String>>,
}

impl Town {
    /// Takes in partners, half of which settle at issue and half at redemption, and members.
    pub(super) async fn furnish(
        client: &Client,
        partners: usize,
        members: usize,
    ) -> anyhow::Result<Self> {
        let run = Uuid::new_v4();
        let ids = Arc::new(RequestIds::new(run.as_bytes()));
        let registrar = Registrar::new(client.clone(), ids, client.clock().now());
        // Runs may share a database: codes and cards begin with what no other run has.
        let run = run.simple().to_string();
        let short = run.get(..8).unwrap_or_default();
        let taken_in: Vec<PartnerId> = stream::iter(0..partners)
            .map(|n| take_in(&registrar, format!("{short}-{n}"), terms(n)))
            .buffered(PARTNERS_IN_FLIGHT)
            .try_collect()
            .await?;
        let funders = taken_in.iter().take(FUNDERS).map(|id| Funder {
            party: Party::Partner(*id).to_string(),
            weight: 1,
        });
        let joint = Terms {
            funders: funders.collect(),
            // Expires before anything else, so that it is what redemptions take.
            lot_lifetime_days: 30,
            ..terms(0)
        };
        let joint = take_in(&registrar, format!("{short}-joint"), joint).await?;
        let cards: Vec<String> = (0..members).map(|n| format!("{short}-{n}")).collect();
        let members = registrar
            .enroll(IdentifierType::Card, &cards, MEMBERS_IN_FLIGHT, || {})
            .await?;
        Ok(Self {
            client: client.clone(),
            partners: Arc::new(taken_in),
            joint,
            members: Arc::new(members),
        })
    }

    /// The same partners, with these members.
    pub(super) fn with_members(&self, members: Vec<String>) -> Self {
        Self {
            members: Arc::new(members),
            ..self.clone()
        }
    }

    /// The partners, but for the one of the joint promotion.
    pub(super) fn partners(&self) -> &[PartnerId] {
        &self.partners
    }

    /// The same network, called through another client.
    pub(super) fn through(&self, client: &Client) -> Self {
        Self {
            client: client.clone(),
            ..self.clone()
        }
    }

    pub(super) fn members(&self) -> usize {
        self.members.len()
    }

    /// Earns at partners and by members taken at random from the first so many of each.
    pub(super) fn earns(&self, partners: usize, members: usize) -> anyhow::Result<Earns> {
        let tills = self.partners.iter().take(partners);
        let tills = tills.map(|id| self.client.caller(Who::Till(*id)));
        Ok(Earns {
            clock: self.client.clock(),
            tills: Arc::new(tills.collect::<Result<_, _>>()?),
            members: Arc::clone(&self.members),
            among: members.clamp(1, self.members.len()),
        })
    }

    /// Earns that give each member in turn three lots of three issuers.
    pub(super) fn joint_earns(&self) -> anyhow::Result<InTurn> {
        self.in_turn(false)
    }

    /// Redemptions by each member in turn of what one of [`Self::joint_earns`] gave.
    pub(super) fn redemptions(&self) -> anyhow::Result<InTurn> {
        self.in_turn(true)
    }

    /// Redeems once what a member got from one of [`Self::joint_earns`], and gives it back.
    ///
    /// # Errors
    ///
    /// It does not take a lot of each of so many issuers: then redemptions are not what they are
    /// measured as.
    pub(super) async fn check_redemption(&self, issuers: usize) -> anyhow::Result<()> {
        let till = self.client.caller(Who::Till(self.joint))?;
        let mut rng = fastrand::Rng::new();
        let member = self.members.first().cloned().unwrap_or_default();
        let id = fresh_id(self.client.clock().now(), &mut rng);
        let redeemed = till.call(redeem(id, member)).await?;
        let found: BTreeSet<&str> = redeemed.slices.iter().map(|s| s.issuer.as_str()).collect();
        ensure!(
            redeemed.slices.len() == issuers && found.len() == issuers,
            "a redemption took {} lots of {} issuers instead of {issuers}",
            redeemed.slices.len(),
            found.len()
        );
        let refund = RefundRedemptionRequest {
            request_id: fresh_id(self.client.clock().now(), &mut rng),
            partner_id: String::new(),
            original: Some(refund_redemption_request::Original::OriginalTransactionId(
                redeemed.transaction_id,
            )),
            points: redeemed.points,
            context: None,
        };
        till.call(refund).await?;
        Ok(())
    }

    fn in_turn(&self, redeems: bool) -> anyhow::Result<InTurn> {
        Ok(InTurn {
            clock: self.client.clock(),
            till: self.client.caller(Who::Till(self.joint))?,
            members: Arc::clone(&self.members),
            turn: Arc::new(AtomicUsize::new(0)),
            redeems,
        })
    }
}

async fn take_in(registrar: &Registrar, code: String, terms: Terms) -> anyhow::Result<PartnerId> {
    let partner = NewPartner {
        display_name: format!("Shop {code}"),
        code,
        kind: PartnerKind::Shop,
    };
    let id = registrar.create_partner(&partner).await?;
    registrar.agree(id, terms).await?;
    Ok(id)
}

fn terms(n: usize) -> Terms {
    let (price, reimbursement) = ("0.0095".to_owned(), "0.0085".to_owned());
    let preset = if n.is_multiple_of(2) {
        Preset::SettleAtRedemption(SettleAtRedemption {
            redemption_price_per_point: price,
            reimbursement_per_point: reimbursement,
        })
    } else {
        Preset::SettleAtIssue(SettleAtIssue {
            issue_price_per_point: price,
            reimbursement_per_point: reimbursement,
        })
    };
    Terms {
        currency_code: "EUR".to_owned(),
        points_per_unit: "1".to_owned(),
        lot_lifetime_days: 365,
        preset: Some(preset),
        ..Terms::default()
    }
}

/// The smallest call there is.
#[derive(Clone)]
pub(super) struct Empty(pub(super) Client);

impl load::Caller for Empty {
    async fn call(&self, _: &mut fastrand::Rng) -> Result<(), CallError> {
        self.0.health().await
    }
}

/// Earns, here and there.
#[derive(Clone)]
pub(super) struct Earns {
    clock: Arc<dyn Clock>,
    tills: Arc<Vec<Caller>>,
    members: Arc<Vec<String>>,
    among: usize,
}

impl load::Caller for Earns {
    async fn call(&self, rng: &mut fastrand::Rng) -> Result<(), CallError> {
        let till = &self.tills[rng.usize(0..self.tills.len())];
        let member = &self.members[rng.usize(0..self.among)];
        let id = fresh_id(self.clock.now(), rng);
        till.call_once(earn(id, member.clone())).await.map(drop)
    }
}

/// Earns, every fourth of them followed by a redemption of what it gave.
#[derive(Clone)]
pub(super) struct Shopping(Earns);

impl Shopping {
    /// With the tills and members of these earns.
    pub(super) const fn of(earns: Earns) -> Self {
        Self(earns)
    }
}

impl load::Caller for Shopping {
    async fn call(&self, rng: &mut fastrand::Rng) -> Result<(), CallError> {
        let Earns {
            clock,
            tills,
            members,
            among,
        } = &self.0;
        let till = &tills[rng.usize(0..tills.len())];
        let member = &members[rng.usize(0..*among)];
        let id = fresh_id(clock.now(), rng);
        till.call_once(earn(id, member.clone())).await?;
        if rng.u8(0..4) == 0 {
            let id = fresh_id(clock.now(), rng);
            till.call_once(redeem(id, member.clone())).await?;
        }
        Ok(())
    }
}

/// Calls for each member in turn: earns of three lots, or redemptions of them.
#[derive(Clone)]
pub(super) struct InTurn {
    clock: Arc<dyn Clock>,
    till: Caller,
    members: Arc<Vec<String>>,
    turn: Arc<AtomicUsize>,
    redeems: bool,
}

impl load::Caller for InTurn {
    async fn call(&self, rng: &mut fastrand::Rng) -> Result<(), CallError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.members.len();
        let member = self.members[turn].clone();
        let id = fresh_id(self.clock.now(), rng);
        if self.redeems {
            let redeem = redeem(id, member);
            self.till.call_once(redeem).await.map(drop)
        } else {
            self.till.call_once(earn(id, member)).await.map(drop)
        }
    }
}

/// A new id, ordered by time as good clients make them.
pub(super) fn fresh_id(now: Timestamp, rng: &mut fastrand::Rng) -> String {
    let millis = u64::try_from(now.micros() / 1_000).unwrap_or(0);
    let mut random = [0; 10];
    rng.fill(&mut random);
    let id: Uuid = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    id.to_string()
}

/// A check of its own for each request: its number is the request's.
fn context(request_id: &str) -> PosContext {
    PosContext {
        location: "centre".to_owned(),
        terminal: "till-1".to_owned(),
        check_id: request_id.to_owned(),
        ..PosContext::default()
    }
}

fn earn(request_id: String, member: String) -> EarnRequest {
    EarnRequest {
        partner_id: String::new(),
        member: Some(earn_request::Member::MemberId(member)),
        context: Some(context(&request_id)),
        amounts: Some(CheckAmounts {
            gross: Some(Money {
                currency_code: "EUR".to_owned(),
                amount: CHECK_MINOR,
            }),
            ..CheckAmounts::default()
        }),
        request_id,
    }
}

fn redeem(request_id: String, member: String) -> RedeemRequest {
    RedeemRequest {
        partner_id: String::new(),
        member: Some(redeem_request::Member::MemberId(member)),
        points: CHECK_POINTS,
        context: Some(context(&request_id)),
        check_total: None,
        request_id,
    }
}
