//! A month of shopping: every day, members go to shops, earn, spend, bring things back, and tills
//! lose an answer now and then.
//!
//! What a member does on a day follows from the seed alone, so that a month can be had again.

use anyhow::{Context as _, bail, ensure};
use coalition_ledger::Timestamp;
use coalition_ledger::time::{MICROS_PER_DAY, MICROS_PER_SECOND};
use coalition_proto::common::{ErrorReason, Money, PosContext};
use coalition_proto::earn::{
    CheckAmounts, EarnRequest, ReturnEarnRequest, earn_request, return_earn_request,
};
use coalition_proto::redeem::{
    QuoteRequest, RedeemRequest, RefundRedemptionRequest, quote_request, redeem_request,
    refund_redemption_request,
};
use coalition_proto::settlement::{
    FundingDirection, GetHeadroomRequest, HeadroomAlert, RecordFundingRequest,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};

use super::cast::{BRUNO, SHOPS, Town, euro};
use super::{IN_FLIGHT, OPENING};
use crate::client::setup::wire_time;

/// Days of the month.
pub(super) const DAYS: u32 = 31;

/// When the shops close, in hours after midnight; the clock stands there for a day's calls.
const CLOSING_HOUR: i64 = 22;

const HOUR_MICROS: i64 = 3_600 * MICROS_PER_SECOND;

/// What members spend at a time: a hundred points, one euro.
const REWARD_POINTS: i64 = 100;

/// What an impatient member asks for, having much less.
const TOO_MANY_POINTS: i64 = 25_000;

/// What Barbier Bruno pays in at a time, in cents.
const PREPAID_MINOR: i64 = 6_000;

/// How often things happen.
const VISITS_ON_A_DAY: f64 = 0.55;
const PAYS_WITH_POINTS: f64 = 0.45;
const ASKS_FOR_TOO_MUCH: f64 = 0.03;
const ANSWER_IS_LOST: f64 = 0.03;
const BRINGS_BACK: f64 = 0.05;
const CHANGES_MIND: f64 = 0.15;
const FORGETS_OLD_CHECK: f64 = 0.3;

/// What happened in the month.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) checks: u64,
    pub(super) redemptions: u64,
    pub(super) too_few_points: u64,
    pub(super) returns: u64,
    pub(super) refunds: u64,
    /// Answers that a till lost and asked for again.
    pub(super) asked_again: u64,
    /// What the operator noticed, by day of the month.
    pub(super) notes: Vec<(u32, String)>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.checks += other.checks;
        self.redemptions += other.redemptions;
        self.too_few_points += other.too_few_points;
        self.returns += other.returns;
        self.refunds += other.refunds;
        self.asked_again += other.asked_again;
        self.notes.extend(other.notes);
    }
}

/// When the month is over.
pub(super) fn end() -> Timestamp {
    at(DAYS, 0)
}

/// An instant of a day, counted from 0.
fn at(day: u32, micros: i64) -> Timestamp {
    OPENING.saturating_add_micros(
        i64::from(day)
            .saturating_mul(MICROS_PER_DAY)
            .saturating_add(micros),
    )
}

/// Lets the members shop for a month, and leaves the clock at its end.
pub(super) async fn shop(town: &Town, seed: u64) -> anyhow::Result<Tally> {
    let style = ProgressStyle::with_template("{msg:>14} [{bar:31}] {pos}/{len} days  {elapsed}")
        .context("the progress bar's template")?;
    let bar = ProgressBar::new(DAYS.into()).with_style(style.progress_chars("=> "));
    let mut tally = Tally::default();
    top_up(town, 0).await?;
    let mut shoppers: Vec<Shopper> = (0..town.members.len()).map(Shopper::new).collect();
    for day in 0..DAYS {
        let closing = at(day, CLOSING_HOUR * HOUR_MICROS);
        bar.set_message(date(closing));
        town.registrar.set_clock(closing).await?;
        let days = shoppers
            .into_iter()
            .map(|shopper| shopper.day(town, seed, day));
        let ended: Vec<(Shopper, Tally)> =
            stream::iter(days).buffered(IN_FLIGHT).try_collect().await?;
        shoppers = Vec::with_capacity(ended.len());
        for (shopper, own) in ended {
            shoppers.push(shopper);
            tally.add(own);
        }
        tally.notes.extend(evening(town, day).await?);
        bar.inc(1);
    }
    town.registrar.set_clock(end()).await?;
    bar.finish_and_clear();
    Ok(tally)
}

fn date(at: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(at.micros())
        .map(|at| at.strftime("%a %-d %B").to_string())
        .unwrap_or_default()
}

/// The operator looks after the partner that pays in advance.
async fn evening(town: &Town, day: u32) -> anyhow::Result<Option<(u32, String)>> {
    let headroom = GetHeadroomRequest {
        partner_id: town.partners[BRUNO].to_string(),
    };
    let headroom = town
        .maker
        .call(headroom)
        .await?
        .headroom
        .unwrap_or_default();
    if headroom.alert() == HeadroomAlert::None {
        return Ok(None);
    }
    top_up(town, day + 1).await?;
    let note = format!(
        "{} has used {} % of its prepaid block and pays in another {} €",
        SHOPS[BRUNO].name,
        headroom.used_percent,
        PREPAID_MINOR / 100,
    );
    Ok(Some((day + 1, note)))
}

async fn top_up(town: &Town, day: u32) -> anyhow::Result<()> {
    let funding = RecordFundingRequest {
        request_id: town.ids.id(&format!("funding {day}"), at(day, 0)),
        partner_id: town.partners[BRUNO].to_string(),
        amount: Some(euro(PREPAID_MINOR)),
        direction: FundingDirection::Deposit.into(),
        bank_reference: format!("BRUNO-{day:02}"),
    };
    town.maker.call(funding).await?;
    Ok(())
}

/// A member, and what is in the shopping bag.
struct Shopper {
    number: usize,
    /// A check that earned and can be brought back: where, which, and its basis in cents.
    check: Option<(usize, String, i64)>,
    /// The last redemption: where, which, and how many points.
    redemption: Option<(usize, String, i64)>,
}

/// A till with a member in front of it.
struct Till<'a> {
    town: &'a Town,
    shop: usize,
    /// The number of the check.
    check: String,
    at: Timestamp,
}

impl Shopper {
    fn new(number: usize) -> Self {
        Self {
            number,
            check: None,
            redemption: None,
        }
    }

    /// What the member does on a day.
    async fn day(mut self, town: &Town, seed: u64, day: u32) -> anyhow::Result<(Self, Tally)> {
        let mut tally = Tally::default();
        let mut mood = self.mood(seed, day);
        if mood.f64() >= VISITS_ON_A_DAY {
            return Ok((self, tally));
        }
        let opening = i64::from(mood.u32(9 * 60..21 * 60)) * 60 * MICROS_PER_SECOND;
        let till = |shop: usize, what: &str| Till {
            town,
            shop,
            check: format!("{what}{:02}-{:03}", day + 1, self.number),
            at: at(day, opening),
        };
        if mood.f64() < BRINGS_BACK
            && let Some((shop, check, basis)) = self.check.take()
        {
            let part = if mood.bool() {
                basis
            } else {
                basis - basis / 2
            };
            till(shop, "r").return_goods(check, part).await?;
            tally.returns += 1;
        }
        if mood.f64() < CHANGES_MIND
            && let Some((shop, check, points)) = self.redemption.take()
        {
            till(shop, "f").refund(check, points).await?;
            tally.refunds += 1;
        }
        let shop = self.choose(&mut mood);
        let till = till(shop, "");
        let (least, most) = SHOPS[shop].check_minor;
        let gross = mood.i64(least..=most);
        let mut paid = None;
        if mood.f64() < ASKS_FOR_TOO_MUCH {
            till.redeem_too_much(&town.members[self.number]).await?;
            tally.too_few_points += 1;
        } else if mood.f64() < PAYS_WITH_POINTS {
            paid = till
                .pay_with_points(&town.members[self.number], gross)
                .await?;
        }
        let value = match paid {
            Some((points, value)) => {
                tally.redemptions += 1;
                self.redemption = Some((shop, till.check.clone(), points));
                value
            }
            None => 0,
        };
        let twice = mood.f64() < ANSWER_IS_LOST;
        till.earn(&town.members[self.number], gross, value, twice)
            .await?;
        tally.checks += 1;
        tally.asked_again += u64::from(twice);
        let basis = gross - value;
        // Some checks stay in the bag for long: by the time the goods come back, their points are
        // spent, and the member owes them.
        if basis > 0 && (self.check.is_none() || mood.f64() < FORGETS_OLD_CHECK) {
            self.check = Some((shop, till.check.clone(), basis));
        }
        Ok((self, tally))
    }

    /// Chance, of this member on this day.
    fn mood(&self, seed: u64, day: u32) -> fastrand::Rng {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut mix = || rng.u64(..);
        let of_member = mix().wrapping_mul(2 * self.number as u64 + 1);
        let of_day = mix().wrapping_mul(2 * u64::from(day) + 1);
        fastrand::Rng::with_seed(of_member ^ of_day)
    }

    /// Everybody has two favourites, and now and then goes elsewhere.
    fn choose(&self, mood: &mut fastrand::Rng) -> usize {
        let shops = SHOPS.len();
        match mood.u8(0..10) {
            0..=3 => self.number % shops,
            4..=6 => (self.number / shops + 3) % shops,
            _ => mood.usize(0..shops),
        }
    }
}

impl Till<'_> {
    fn request_id(&self, what: &str) -> String {
        let what = format!("{what} {} {}", SHOPS[self.shop].short, self.check);
        self.town.ids.id(&what, self.at)
    }

    fn context(&self) -> PosContext {
        PosContext {
            terminal: "till-1".to_owned(),
            occurred_at: Some(wire_time(self.at)),
            check_id: self.check.clone(),
            ..PosContext::default()
        }
    }

    async fn earn(&self, member: &str, gross: i64, paid: i64, twice: bool) -> anyhow::Result<()> {
        let earn = EarnRequest {
            request_id: self.request_id("earn"),
            partner_id: String::new(),
            member: Some(earn_request::Member::MemberId(member.to_owned())),
            context: Some(self.context()),
            amounts: Some(CheckAmounts {
                gross: Some(euro(gross)),
                paid_with_points: (paid > 0).then(|| euro(paid)),
                ..CheckAmounts::default()
            }),
        };
        let till = &self.town.tills[self.shop];
        let first = till.call(earn.clone()).await?;
        if twice {
            let second = till.call(earn).await?;
            ensure!(
                second.replayed && second.transaction_id == first.transaction_id,
                "a check earned twice"
            );
        }
        Ok(())
    }

    /// Pays up to half of the check in hundreds of points, if the member has them: how many points,
    /// and the cents that they pay.
    async fn pay_with_points(
        &self,
        member: &str,
        gross: i64,
    ) -> anyhow::Result<Option<(i64, i64)>> {
        let quote = QuoteRequest {
            partner_id: String::new(),
            member: Some(quote_request::Member::MemberId(member.to_owned())),
            ask: Some(quote_request::Ask::AmountDue(euro(gross / 2))),
        };
        let till = &self.town.tills[self.shop];
        let quoted = till.call(quote).await?;
        let points = quoted.points - quoted.points % REWARD_POINTS;
        if points == 0 {
            return Ok(None);
        }
        let redeemed = till.call(self.redeem_request(member, points)).await?;
        let value = redeemed
            .value
            .as_ref()
            .map_or(0, |value: &Money| value.amount);
        Ok(Some((points, value)))
    }

    async fn redeem_too_much(&self, member: &str) -> anyhow::Result<()> {
        let redeem = self.redeem_request(member, TOO_MANY_POINTS);
        match self.town.tills[self.shop].call(redeem).await {
            Err(error) if error.reason() == Some(ErrorReason::InsufficientPoints) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => bail!("{TOO_MANY_POINTS} points were spent by somebody who never had them"),
        }
    }

    fn redeem_request(&self, member: &str, points: i64) -> RedeemRequest {
        RedeemRequest {
            request_id: self.request_id("redeem"),
            partner_id: String::new(),
            member: Some(redeem_request::Member::MemberId(member.to_owned())),
            points,
            context: Some(self.context()),
            check_total: None,
        }
    }

    async fn return_goods(&self, check: String, minor: i64) -> anyhow::Result<()> {
        let back = ReturnEarnRequest {
            request_id: self.request_id("return"),
            partner_id: String::new(),
            original: Some(return_earn_request::Original::OriginalCheckId(check)),
            returned: Some(euro(minor)),
            context: Some(self.context()),
        };
        self.town.tills[self.shop].call(back).await?;
        Ok(())
    }

    async fn refund(&self, check: String, points: i64) -> anyhow::Result<()> {
        let refund = RefundRedemptionRequest {
            request_id: self.request_id("refund"),
            partner_id: String::new(),
            original: Some(refund_redemption_request::Original::OriginalCheckId(check)),
            points,
            context: Some(self.context()),
        };
        self.town.tills[self.shop].call(refund).await?;
        Ok(())
    }
}
