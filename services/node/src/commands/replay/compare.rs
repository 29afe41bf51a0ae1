//! Holding what the network says against what is expected.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, bail};
use coalition_ledger::ids::{PartnerId, Party};
use coalition_proto::member::GetBalanceRequest;
use coalition_proto::settlement::verify_response::Event;
use coalition_proto::settlement::{
    ComputeSettlementRequest, NettingMethod, Position, SettlementPosition, Window,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use uuid::Uuid;

use super::journal::{ExpectedPartner, ExpectedWindow, ExpectedWindows, Journal, Net};
use crate::client::setup::wire_time;
use crate::client::{Client, Who};

/// Balances asked for at once: more would only wait for the database.
const READS_IN_FLIGHT: usize = 16;

/// One figure that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) place: String,
    pub(super) what: &'static str,
    pub(super) expected: String,
    pub(super) found: String,
}

/// What should come out.
pub(super) struct Figures {
    pub(super) windows: ExpectedWindows,
    /// How many rows there are of them.
    pub(super) window_rows: usize,
    pub(super) balances: BTreeMap<String, i64>,
}

pub(super) struct Comparison<'a> {
    pub(super) client: &'a Client,
    pub(super) journal: &'a Journal,
    /// The ids of the journal's partners.
    pub(super) partners: &'a [PartnerId],
    /// The ids of the journal's members.
    pub(super) members: &'a [String],
}

impl Comparison<'_> {
    /// How many expected rows match, and what does not.
    pub(super) async fn windows(
        &self,
        expected: &Figures,
        closed: &[Window],
    ) -> anyhow::Result<(usize, Vec<Difference>)> {
        let mut rows = 0;
        let mut differences = Vec::new();
        for (number, expected) in &expected.windows {
            let window = number.checked_sub(1).and_then(|n| closed.get(n));
            let Some(window) = window else {
                differences.push(Difference {
                    place: format!("window {number}"),
                    what: "window",
                    expected: "closed".to_owned(),
                    found: "none".to_owned(),
                });
                continue;
            };
            let found = self.window(window).await?;
            rows += compare_window(*number, expected, &found, &mut differences);
        }
        for number in expected.windows.len()..closed.len() {
            differences.push(Difference {
                place: format!("window {}", number + 1),
                what: "window",
                expected: "none".to_owned(),
                found: "closed".to_owned(),
            });
        }
        Ok((rows, differences))
    }

    async fn window(&self, window: &Window) -> anyhow::Result<FoundWindow> {
        let maker = self.client.caller(Who::MAKER)?;
        let positions = maker.positions(&window.window_id).await?;
        let compute = ComputeSettlementRequest {
            // Nothing is kept, so that nothing has to be found again by this name.
            request_id: Uuid::new_v4().to_string(),
            window_ids: vec![window.window_id.clone()],
            netting: NettingMethod::Multilateral.into(),
            validate_only: true,
        };
        let settlement = maker.call(compute).await?.settlement.unwrap_or_default();
        let names: HashMap<String, &str> = self
            .partners
            .iter()
            .zip(&self.journal.partners)
            .map(|(id, row)| (id.to_string(), row.partner.code.as_str()))
            .collect();
        let mut found = FoundWindow {
            closed_at: window.closed_at.unwrap_or_default(),
            sums: positions.sums.iter().map(|sum| sum.sum_micros).collect(),
            ..FoundWindow::default()
        };
        for position in positions.rows {
            found.add_position(&names, &position);
        }
        for position in settlement.positions {
            found.add_net(&names, &position);
        }
        Ok(found)
    }

    /// How many members have what they should, and what differs.
    pub(super) async fn balances(
        &self,
        expected: &BTreeMap<String, i64>,
    ) -> anyhow::Result<(usize, Vec<Difference>)> {
        let viewer = self.client.caller(Who::VIEWER)?;
        let found: BTreeMap<&str, i64> =
            stream::iter(self.journal.members.iter().zip(self.members))
                .map(|(name, member_id)| {
                    let viewer = viewer.clone();
                    let member_id = member_id.clone();
                    async move {
                        let found = viewer.call(GetBalanceRequest { member_id }).await?;
                        anyhow::Ok((name.as_str(), found.balance.unwrap_or_default().balance))
                    }
                })
                .buffer_unordered(READS_IN_FLIGHT)
                .try_collect()
                .await?;
        let mut matching = 0;
        let mut differences = Vec::new();
        let shown =
            |balance: Option<i64>| balance.map_or("no member".to_owned(), |b| b.to_string());
        for (name, balance) in expected {
            let found = found.get(name.as_str()).copied();
            if found == Some(*balance) {
                matching += 1;
            } else {
                differences.push(Difference {
                    place: format!("member {name}"),
                    what: "balance",
                    expected: balance.to_string(),
                    found: shown(found),
                });
            }
        }
        for (name, balance) in found {
            if !expected.contains_key(name) {
                differences.push(Difference {
                    place: format!("member {name}"),
                    what: "balance",
                    expected: shown(None),
                    found: balance.to_string(),
                });
            }
        }
        Ok((matching, differences))
    }

    /// Has the network check its books: what it says in the end, and each finding.
    pub(super) async fn books(&self) -> anyhow::Result<(String, Vec<Difference>)> {
        let mut news = self.client.caller(Who::VIEWER)?.verify().await?;
        let mut differences = Vec::new();
        while let Some(new) = news.try_next().await.context("checking the books")? {
            match new.event {
                Some(Event::Finding(finding)) => differences.push(Difference {
                    place: finding.r#where,
                    what: "books",
                    expected: format!("{}: {}", finding.what, finding.expected),
                    found: finding.found,
                }),
                Some(Event::Summary(summary)) => {
                    let verdict = if summary.balanced {
                        "books balance"
                    } else {
                        "books do not balance"
                    };
                    let said = format!(
                        "{verdict}: {} postings, {} transfers, {} members, {} lots, {} windows",
                        summary.postings,
                        summary.transfers,
                        summary.members,
                        summary.lots,
                        summary.windows
                    );
                    return Ok((said, differences));
                }
                Some(Event::Progress(_)) | None => {}
            }
        }
        bail!("the check of the books ended without a summary")
    }
}

/// What the network says about a window, by what the journal calls the partners.
#[derive(Default)]
struct FoundWindow {
    closed_at: prost_types::Timestamp,
    partners: BTreeMap<String, ExpectedPartner>,
    operator: Net,
    sums: Vec<i64>,
}

impl FoundWindow {
    fn add_position(&mut self, names: &HashMap<String, &str>, position: &Position) {
        if position.party == Party::OPERATOR {
            self.operator.micros = position.net_micros;
            return;
        }
        let found = self.partner(names, &position.party);
        found.issued = position.points_issued;
        found.clawed_back = position.points_clawed_back;
        found.redeemed_at = position.points_redeemed_here;
        found.redeemed_of = position.points_redeemed_of;
        found.expired = position.points_expired;
        found.net.micros = position.net_micros;
    }

    fn add_net(&mut self, names: &HashMap<String, &str>, position: &SettlementPosition) {
        let minor = position.net.as_ref().map_or(0, |net| net.amount);
        if position.party == Party::OPERATOR {
            self.operator.minor = minor;
        } else {
            self.partner(names, &position.party).net.minor = minor;
        }
    }

    fn partner(&mut self, names: &HashMap<String, &str>, id: &str) -> &mut ExpectedPartner {
        let name = names.get(id).copied().unwrap_or(id);
        self.partners.entry(name.to_owned()).or_default()
    }
}

/// How many expected rows of a window match; adds what differs.
fn compare_window(
    number: usize,
    expected: &ExpectedWindow,
    found: &FoundWindow,
    differences: &mut Vec<Difference>,
) -> usize {
    let mut matching = 0;
    let mut note = |who: &str, figures: &[(&'static str, i64, i64)]| {
        let wrong = figures
            .iter()
            .filter(|(_, expected, found)| expected != found);
        let before = differences.len();
        differences.extend(wrong.map(|(what, expected, found)| Difference {
            place: format!("window {number}, {who}"),
            what,
            expected: expected.to_string(),
            found: found.to_string(),
        }));
        differences.len() == before
    };
    for (name, row) in &expected.partners {
        let found = found.partners.get(name).copied().unwrap_or_default();
        matching += usize::from(note(name, &figures(row, &found)));
    }
    for (name, row) in &found.partners {
        if !expected.partners.contains_key(name) {
            note(name, &figures(&ExpectedPartner::default(), row));
        }
    }
    if let Some(operator) = &expected.operator {
        matching += usize::from(note("operator", &net(operator, &found.operator)));
    }
    for sum in &found.sums {
        note("all parties", &[("sum of net_micros", 0, *sum)]);
    }
    let (at, found_at) = (wire_time(expected.closed_at), found.closed_at);
    note(
        "clock",
        &[("closed_at, in seconds", at.seconds, found_at.seconds)],
    );
    matching
}

fn figures(expected: &ExpectedPartner, found: &ExpectedPartner) -> Vec<(&'static str, i64, i64)> {
    let mut figures = vec![
        ("issued", expected.issued, found.issued),
        ("clawed_back", expected.clawed_back, found.clawed_back),
        ("redeemed_at", expected.redeemed_at, found.redeemed_at),
        ("redeemed_of", expected.redeemed_of, found.redeemed_of),
        ("expired", expected.expired, found.expired),
    ];
    figures.extend(net(&expected.net, &found.net));
    figures
}

fn net(expected: &Net, found: &Net) -> [(&'static str, i64, i64); 2] {
    [
        ("net_micros", expected.micros, found.micros),
        ("net_minor", expected.minor, found.minor),
    ]
}

#[cfg(test)]
mod tests {
    use coalition_ledger::Timestamp;

    use super::*;

    #[test]
    fn every_figure_that_differs_is_named_and_nothing_else() {
        let row = ExpectedPartner {
            issued: 100,
            redeemed_at: 7,
            net: Net {
                micros: 5_000,
                minor: 1,
            },
            ..ExpectedPartner::default()
        };
        let expected = ExpectedWindow {
            closed_at: Timestamp::from_micros(3_000_000),
            partners: [("p0".to_owned(), row), ("p1".to_owned(), row)].into(),
            operator: Some(Net::default()),
        };
        let wrong = ExpectedPartner {
            redeemed_at: 8,
            net: Net {
                micros: 5_001,
                ..row.net
            },
            ..row
        };
        let found = FoundWindow {
            closed_at: wire_time(expected.closed_at),
            partners: [("p0".to_owned(), row), ("p1".to_owned(), wrong)].into(),
            operator: Net::default(),
            sums: vec![0],
        };
        let mut differences = Vec::new();
        let matching = compare_window(3, &expected, &found, &mut differences);
        assert_eq!(matching, 2);
        let named = |what, expected: &str, found: &str| Difference {
            place: "window 3, p1".to_owned(),
            what,
            expected: expected.to_owned(),
            found: found.to_owned(),
        };
        assert_eq!(
            differences,
            [
                named("redeemed_at", "7", "8"),
                named("net_micros", "5000", "5001")
            ]
        );
    }
}
