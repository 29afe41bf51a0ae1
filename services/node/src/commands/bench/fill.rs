//! Filling books fast: through the poster of this process, past gateway and sockets, not past the
//! ledger.
//!
//! What happens is what happens in a network: members buy here and there for amounts of all sizes,
//! and now and then pay with points. What a member has is known from the answers, so that few
//! redemptions are declined. The seed is fixed: runs are alike.

use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use coalition_ledger::Clock;
use coalition_ledger::command::{
    Action, CheckAmounts, Command, Earn, Enroll, NewIdentifier, Redeem, RequestKey,
};
use coalition_ledger::decision::Decision;
use coalition_ledger::ids::{MemberId, PartnerId};
use coalition_ledger::money::{Currency, Minor, Points};
use coalition_ledger::transaction::Context;
use coalition_store::poster::{BATCH_COMMANDS, Poster, PosterSettings};
use coalition_store::{PoolSettings, Store, SystemClock, open};
use futures::{StreamExt as _, stream};
use indicatif::ProgressBar;
use uuid::Uuid;

use super::furnish::fresh_id;
use super::process::Setup;

/// Commands that are sent together, and how often that many are on their way: two batches, one that
/// is being made durable and one that waits.
const TOGETHER: usize = BATCH_COMMANDS / 2;
const ON_THEIR_WAY: usize = 4;

/// Of so many purchases one is paid with points, if the member has some.
const ONE_REDEMPTION_IN: u32 = 6;

/// What purchases come to, in cents: most are small.
const CHECK_MINOR: [(i64, i64); 4] = [(300, 1_500), (800, 4_000), (800, 4_000), (2_000, 15_000)];

/// What is paid with points.
const REDEMPTION_POINTS: (i64, i64) = (20, 150);

/// Kinds of identifiers, as the public interface numbers them: a card.
const CARD: i16 = 1;

/// Those who buy, and what they have.
pub(super) struct Crowd {
    partners: Vec<PartnerId>,
    members: Vec<(MemberId, Points)>,
    rng: fastrand::Rng,
    checks: u64,
}

impl Crowd {
    /// Enrols so many members.
    pub(super) async fn enroll(
        setup: &Setup,
        partners: &[PartnerId],
        members: usize,
        seed: u64,
        progress: &ProgressBar,
    ) -> anyhow::Result<Self> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let filling = Filling::begin(setup).await?;
        let new = |_| {
            let member = MemberId::from_uuid(id(&mut rng)?);
            let mut hash = [0; 32];
            rng.fill(&mut hash);
            let enroll = Enroll {
                member,
                identifiers: vec![NewIdentifier {
                    hash,
                    kind: CARD,
                    masked: "••••1234".to_owned(),
                }],
            };
            let command = command(&mut rng, Uuid::nil(), Action::Enroll(enroll))?;
            Ok((member, command))
        };
        let new: Vec<(MemberId, Command)> = (0..members).map(new).collect::<anyhow::Result<_>>()?;
        let (members, commands): (Vec<MemberId>, Vec<Command>) = new.into_iter().unzip();
        let batches = commands.chunks(TOGETHER).map(<[Command]>::to_vec);
        let mut posting = stream::iter(batches)
            .map(|batch| filling.poster.post_all(batch))
            .buffer_unordered(ON_THEIR_WAY);
        while let Some(decisions) = posting.next().await {
            for decision in decisions? {
                ensure!(
                    matches!(decision, Decision::Enrolled { .. }),
                    "a member was not enrolled: {decision:?}"
                );
                progress.inc(1);
            }
        }
        drop(posting);
        filling.end().await;
        Ok(Self {
            partners: partners.to_vec(),
            members: members
                .into_iter()
                .map(|member| (member, Points::ZERO))
                .collect(),
            rng,
            checks: 0,
        })
    }

    /// The members' ids as callers write them.
    pub(super) fn members(&self) -> Vec<String> {
        let members = self.members.iter();
        members.map(|(member, _)| member.to_string()).collect()
    }

    /// Has them buy until so many postings are made; how many were.
    pub(super) async fn fill(
        &mut self,
        setup: &Setup,
        postings: u64,
        progress: &ProgressBar,
    ) -> anyhow::Result<u64> {
        let filling = Filling::begin(setup).await?;
        let mut posted = 0;
        let mut under_way = stream::FuturesUnordered::new();
        let mut sent = 0;
        loop {
            while sent < postings && under_way.len() < ON_THEIR_WAY {
                let count = usize::try_from(postings - sent)
                    .unwrap_or(TOGETHER)
                    .min(TOGETHER);
                let (who, commands) = self.purchases(count)?;
                sent += count as u64;
                let poster = filling.poster.clone();
                under_way.push(async move { (who, poster.post_all(commands).await) });
            }
            let Some((who, decisions)) = under_way.next().await else {
                break;
            };
            for (place, decision) in who.into_iter().zip(decisions?) {
                let Decision::Recorded { transaction, .. } = decision else {
                    bail!("a purchase was not recorded: {decision:?}");
                };
                if let Some((_, points)) = self.members.get_mut(place) {
                    *points = transaction.balance.totals.available;
                }
                if transaction.declined.is_none() {
                    posted += 1;
                    progress.inc(1);
                } else {
                    // Made up for.
                    sent -= 1;
                }
            }
        }
        drop(under_way);
        filling.end().await;
        Ok(posted)
    }

    /// So many purchases, and whose.
    fn purchases(&mut self, count: usize) -> anyhow::Result<(Vec<usize>, Vec<Command>)> {
        let mut who = Vec::with_capacity(count);
        let mut commands = Vec::with_capacity(count);
        for _ in 0..count {
            let place = self.rng.usize(0..self.members.len());
            let (member, points) = self.members[place];
            let partner = self.partners[self.rng.usize(0..self.partners.len())];
            let (least, most) = REDEMPTION_POINTS;
            let pays = Points::new(self.rng.i64(least..=most));
            let redeems = self.rng.u32(0..ONE_REDEMPTION_IN) == 0 && points > pays;
            let context = self.context();
            let action = if redeems {
                Action::Redeem(Redeem {
                    partner,
                    member,
                    points: pays,
                    check_total: None,
                    occurred_at: None,
                    context,
                })
            } else {
                let (least, most) = CHECK_MINOR[self.rng.usize(0..CHECK_MINOR.len())];
                Action::Earn(Earn {
                    partner,
                    member,
                    amounts: CheckAmounts {
                        gross: Minor::new(self.rng.i64(least..=most)),
                        ..CheckAmounts::default()
                    },
                    currency: Currency::EUR,
                    occurred_at: None,
                    context,
                })
            };
            commands.push(command(&mut self.rng, partner.uuid(), action)?);
            who.push(place);
        }
        Ok((who, commands))
    }

    /// What a till says of a check.
    fn context(&mut self) -> Context {
        self.checks += 1;
        Context {
            check_id: Some(format!("C-{:09}", self.checks)),
            location: Some("centre".to_owned()),
            terminal: Some(format!("till-{}", self.rng.u8(1..=9))),
            ..Context::default()
        }
    }
}

/// A request of its own.
fn command(rng: &mut fastrand::Rng, scope: Uuid, action: Action) -> anyhow::Result<Command> {
    let mut fingerprint = [0; 16];
    rng.fill(&mut fingerprint);
    let key = RequestKey {
        id: id(rng)?,
        scope,
    };
    Ok(Command {
        request: Some((key, fingerprint)),
        action,
    })
}

fn id(rng: &mut fastrand::Rng) -> anyhow::Result<Uuid> {
    let text = fresh_id(SystemClock.now(), rng);
    text.parse().context("an id that is none")
}

/// A database that is open here, and a way into its books.
struct Filling {
    store: Arc<dyn Store>,
    poster: Poster,
}

impl Filling {
    async fn begin(setup: &Setup) -> anyhow::Result<Self> {
        let store = open(&setup.url(), &PoolSettings::default())
            .await
            .context("the database to fill cannot be opened")?;
        let mut seed = [0; 6];
        fastrand::fill(&mut seed);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let poster = Poster::start(Arc::clone(&store), clock, seed, PosterSettings::default());
        Ok(Self { store, poster })
    }

    async fn end(self) {
        self.poster.shut_down().await;
        self.store.close().await;
    }
}
