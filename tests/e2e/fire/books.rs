//! The books after the run, read through the public interface, and what must be true of them by
//! themselves: windows, sums, and balances that a replay of the postings gives.

use std::collections::{BTreeMap, BTreeSet};

use coalition_ledger::ids::TransactionId;
use coalition_proto::common::{Transaction, TransactionKind, Transfer};
use coalition_proto::member::{GetBalanceRequest, GetBalanceResponse};
use coalition_proto::settlement::{
    GetHeadroomRequest, ListPostingsRequest, ListWindowsRequest, Posting, Window,
};
use futures::future::join_all;

use super::calls::{Answer, Shot, transaction};
use super::setting::Setting;
use super::world::World;

/// Rows asked for at once: the most there is.
const PAGE_ROWS: i32 = 1_000;
/// Unit of points in transfers.
const POINTS: &str = "PTS";

/// What a member has with one issuer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Has {
    pub(crate) available: i64,
    pub(crate) pending: i64,
    pub(crate) debt: i64,
}

/// Everything that was posted, and what the network says it comes to.
pub(crate) struct Books {
    windows: Vec<Window>,
    /// By transaction: the window that lists it, and the posting.
    pub(crate) postings: BTreeMap<TransactionId, (String, Posting)>,
    /// By member and issuer, as a replay of all postings gives it; who has nothing is left out.
    pub(crate) holdings: BTreeMap<(String, String), Has>,
    /// By party and currency, what all windows together owe it, from the postings' transfers.
    pub(crate) nets: BTreeMap<(String, String), i64>,
    /// By party and currency, what was paid in.
    pub(crate) funds: BTreeMap<(String, String), i64>,
    /// Postings that are in two windows, or in another than they say.
    misplaced: Vec<String>,
}

impl Books {
    /// Reads them, once everything that is due is posted.
    pub(crate) async fn read(setting: &Setting) -> Self {
        let network = &setting.network;
        // Sweeps what is due, so that the postings say all there is to say.
        network.cut().await;
        let mut books = Self {
            windows: Vec::new(),
            postings: BTreeMap::new(),
            holdings: BTreeMap::new(),
            nets: BTreeMap::new(),
            funds: BTreeMap::new(),
            misplaced: Vec::new(),
        };
        let mut page_token = String::new();
        loop {
            let request = ListWindowsRequest {
                page_size: PAGE_ROWS,
                page_token,
                ..ListWindowsRequest::default()
            };
            let page = network.viewer.ask(request).await;
            books.windows.extend(page.windows);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        for window in books.windows.clone() {
            books.read_window(setting, &window).await;
        }
        let postings: Vec<Posting> = books.postings.values().map(|(_, p)| p.clone()).collect();
        for transfer in postings.iter().flat_map(|posting| &posting.transfers) {
            books.replay(transfer);
        }
        books.holdings.retain(|_, has| *has != Has::default());
        books
    }

    async fn read_window(&mut self, setting: &Setting, window: &Window) {
        let mut page_token = String::new();
        loop {
            let request = ListPostingsRequest {
                window_id: window.window_id.clone(),
                page_size: PAGE_ROWS,
                page_token,
                ..ListPostingsRequest::default()
            };
            let page = setting.network.viewer.ask(request).await;
            for posting in page.postings {
                let row = row(&posting);
                let id = transaction(&row.transaction_id);
                if row.window_id != window.window_id {
                    self.misplaced
                        .push(format!("{id} in {}: {row:?}", window.window_id));
                }
                let placed = (window.window_id.clone(), posting);
                if let Some((other, _)) = self.postings.insert(id, placed) {
                    self.misplaced
                        .push(format!("{id} in {other} and {}", window.window_id));
                }
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return;
            }
        }
    }

    /// Moves what a transfer moves.
    fn replay(&mut self, transfer: &Transfer) {
        for (account, amount) in [
            (&transfer.debit_account, -transfer.amount),
            (&transfer.credit_account, transfer.amount),
        ] {
            let words: Vec<&str> = account.split('/').collect();
            let party = || {
                words
                    .get(1)
                    .map_or_else(String::new, |party| (*party).to_owned())
            };
            match words[0] {
                "available" | "pending" | "debt" => {
                    let has = self
                        .holdings
                        .entry((party(), words[2].to_owned()))
                        .or_default();
                    match words[0] {
                        "available" => has.available += amount,
                        "pending" => has.pending += amount,
                        // What is owed is what was taken and not repaid.
                        _ => has.debt -= amount,
                    }
                }
                "position" => {
                    *self
                        .nets
                        .entry((party(), transfer.unit.clone()))
                        .or_default() += amount;
                }
                "funds" => {
                    *self
                        .funds
                        .entry((party(), transfer.unit.clone()))
                        .or_default() += amount;
                }
                "issued" | "redeemed" | "expired" | "operator" => {}
                other => panic!("an account of a kind that is not there yet: {other}"),
            }
        }
    }

    pub(crate) fn postings(&self) -> usize {
        self.postings.len()
    }

    pub(crate) fn windows(&self) -> usize {
        self.windows.len()
    }

    /// Everything that must be true of them.
    pub(crate) async fn check(&self, setting: &Setting, world: &World, shots: &[Shot]) {
        self.every_posting_is_in_one_window(shots);
        self.windows_add_up(setting).await;
        self.balances_are_replays(setting, shots).await;
        self.positions_are_replays(setting, world).await;
        let books = setting.network.assert_books_balance().await;
        assert_eq!(books.summary.postings, count(self.postings.len()));
        assert_eq!(books.summary.windows, count(self.windows.len()));
    }

    fn every_posting_is_in_one_window(&self, shots: &[Shot]) {
        assert!(self.misplaced.is_empty(), "{:#?}", self.misplaced);
        for window in &self.windows {
            let within = self
                .postings
                .iter()
                .filter(|(_, (placed, _))| *placed == window.window_id);
            let ids: Vec<String> = within.map(|(id, _)| id.to_string()).collect();
            assert_eq!(window.postings, count(ids.len()), "{window:?}");
            if window.closed_at.is_some() {
                let last = ids.last().cloned().unwrap_or_default();
                assert_eq!(window.last_transaction_id, last, "{window:?}");
            }
        }
        let mut answered = BTreeSet::new();
        for shot in shots.iter().filter(|shot| shot.answer.is_posted()) {
            let id = shot.answer.record().expect("a posting has an id");
            let Some((window, _)) = self.postings.get(&id) else {
                panic!("answered, and in no window: {shot:?}");
            };
            if let Some(named) = shot.answer.window() {
                assert_eq!(named, window, "{shot:?}");
            }
            answered.insert(id);
        }
        for (id, (_, posting)) in &self.postings {
            let own = matches!(
                row(posting).kind(),
                TransactionKind::Expire | TransactionKind::Mature
            );
            assert!(own || answered.contains(id), "nobody asked for {posting:?}");
        }
    }

    /// Σ over windows = Σ of postings: what parties are owed, and points issued, spent and expired.
    async fn windows_add_up(&self, setting: &Setting) {
        let mut nets: BTreeMap<(String, String), i64> = BTreeMap::new();
        let mut points: BTreeMap<(&str, String), i64> = BTreeMap::new();
        for window in &self.windows {
            for row in setting.network.positions(&window.window_id).await {
                for (account, moved) in [
                    ("issued", row.points_clawed_back - row.points_issued),
                    ("redeemed", row.points_redeemed_of),
                    ("expired", row.points_expired),
                ] {
                    *points.entry((account, row.party.clone())).or_default() += moved;
                }
                if !row.currency_code.is_empty() {
                    *nets.entry((row.party, row.currency_code)).or_default() += row.net_micros;
                }
            }
        }
        nets.retain(|_, net| *net != 0);
        let mut replayed = self.nets.clone();
        replayed.retain(|_, net| *net != 0);
        assert_eq!(nets, replayed, "money: windows, postings");

        let mut replayed: BTreeMap<(&str, String), i64> = BTreeMap::new();
        let transfers = self
            .postings
            .values()
            .flat_map(|(_, posting)| &posting.transfers);
        for transfer in transfers.filter(|transfer| transfer.unit == POINTS) {
            for (account, amount) in [
                (&transfer.debit_account, -transfer.amount),
                (&transfer.credit_account, transfer.amount),
            ] {
                if let Some((name @ ("issued" | "redeemed" | "expired"), party)) =
                    account.split_once('/')
                {
                    *replayed.entry((name, party.to_owned())).or_default() += amount;
                }
            }
        }
        points.retain(|_, moved| *moved != 0);
        replayed.retain(|_, moved| *moved != 0);
        assert_eq!(points, replayed, "points: windows, postings");
    }

    async fn balances_are_replays(&self, setting: &Setting, shots: &[Shot]) {
        let members: BTreeSet<String> = shots
            .iter()
            .filter_map(|shot| match &shot.answer {
                Answer::Enrolled(told) => Some(told.member_id.clone()),
                _ => None,
            })
            .collect();
        for ((member, _), has) in &self.holdings {
            assert!(
                members.contains(member),
                "who is {member}, who has {has:?}?"
            );
        }
        let members: Vec<String> = members.into_iter().collect();
        for crowd in members.chunks(8) {
            let asked = crowd.iter().map(|member| {
                setting.network.support.ask(GetBalanceRequest {
                    member_id: member.clone(),
                })
            });
            for (member, told) in crowd.iter().zip(join_all(asked).await) {
                self.balance_is_a_replay(member, &told);
            }
        }
    }

    fn balance_is_a_replay(&self, member: &str, told: &GetBalanceResponse) {
        let mut issuers: BTreeMap<&str, Has> = BTreeMap::new();
        for row in &told.issuers {
            let has = Has {
                available: row.available,
                pending: row.pending,
                debt: row.debt,
            };
            assert_eq!(row.held, 0);
            issuers.insert(&row.issuer, has);
        }
        let replayed: BTreeMap<&str, Has> = self.of(member).collect();
        assert_eq!(issuers, replayed, "{member}: told, replayed");
        let sum = |part: fn(&Has) -> i64| replayed.values().map(part).sum::<i64>();
        let balance = told.balance.as_ref().expect("a balance");
        let (available, debt) = (sum(|has| has.available), sum(|has| has.debt));
        assert_eq!(balance.available, available, "{member}");
        assert_eq!(balance.pending, sum(|has| has.pending), "{member}");
        assert_eq!(
            (balance.debt, balance.balance),
            (debt, available - debt),
            "{member}"
        );
    }

    /// What a member has, by issuer.
    pub(crate) fn of(&self, member: &str) -> impl Iterator<Item = (&str, Has)> {
        let own = self
            .holdings
            .iter()
            .filter(move |((of, _), _)| of == member);
        own.map(|((_, issuer), has)| (issuer.as_str(), *has))
    }

    async fn positions_are_replays(&self, setting: &Setting, world: &World) {
        for shop in &world.shops {
            let request = GetHeadroomRequest {
                partner_id: shop.text.clone(),
            };
            let told = setting.network.viewer.ask(request).await;
            let told = told.headroom.expect("a headroom");
            let key = (shop.text.clone(), told.currency_code.clone());
            let of = |sums: &BTreeMap<(String, String), i64>| {
                sums.get(&key).copied().unwrap_or_default()
            };
            assert_eq!(told.position_micros, of(&self.nets), "{told:?}");
            assert_eq!(told.funds_micros, of(&self.funds), "{told:?}");
        }
    }
}

/// What a posting says of itself.
pub(crate) fn row(posting: &Posting) -> &Transaction {
    posting
        .transaction
        .as_ref()
        .expect("a posting is of a transaction")
}

fn count(many: usize) -> i64 {
    i64::try_from(many).expect("a count")
}
