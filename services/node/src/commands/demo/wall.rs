//! What an operator would want on the wall: whose points were spent where, who is owed what, what
//! to pay, and whether the books balance.
//!
//! Fits 80 columns. Colours only on a terminal that wants them; on anything else, plain text. The
//! figures are the network's own: nothing here adds up money.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use coalition_ledger::ids::Party;
use coalition_ledger::money::{Micros, Minor, Points};
use coalition_proto::settlement::verify_response::Event;
use coalition_proto::settlement::{
    AccountKind, AccountTotal, Exposure, GetTrialBalanceRequest, Position, Settlement,
    VerifySummary,
};
use comfy_table::{Attribute, Cell, CellAlignment, Color, LineStyle, Table, TableStyle};
use console::Style;
use futures::TryStreamExt as _;
use indicatif::{HumanCount, ProgressBar};

use super::cast::{CURRENCY, SHOPS, Town};
use super::month::{DAYS, Tally};
use crate::client::Caller;
use crate::client::lists::Positions;

/// A thin line under the header, and nothing else.
const STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// The colours of heat, coolest first, and what is readable on them (ANSI 256 colours).
const HEAT: [(u8, u8); 6] = [
    (230, 16),
    (229, 16),
    (222, 16),
    (215, 16),
    (208, 16),
    (160, 231),
];

/// Half the width of the bars of net positions.
const BAR_HALF: usize = 7;

/// Prints.
pub(super) struct Wall<'a> {
    town: &'a Town,
    colours: bool,
    heading: Style,
    good: Style,
    bad: Style,
    quiet: Style,
}

impl<'a> Wall<'a> {
    pub(super) fn new(town: &'a Town) -> Self {
        let colours = console::colors_enabled();
        Self {
            town,
            colours,
            heading: Style::new().bold().cyan(),
            good: Style::new().bold().green(),
            bad: Style::new().bold().red(),
            quiet: Style::new().dim(),
        }
    }

    /// Who takes part, on which terms.
    pub(super) fn cast(&self) {
        self.heading("A network of eight");
        let mut table = self.table();
        table.set_header([
            Cell::new(""),
            Cell::new("settles").set_alignment(CellAlignment::Left),
            Cell::new("points/EUR"),
            Cell::new("good for days"),
        ]);
        for shop in &SHOPS {
            table.add_row([
                Cell::new(shop.name),
                Cell::new(shop.model).set_alignment(CellAlignment::Left),
                Cell::new(shop.points_per_unit),
                Cell::new(shop.lot_lifetime_days),
            ]);
        }
        Self::print(table, 1);
    }

    /// What happened.
    pub(super) fn month(&self, tally: &Tally, took: Duration) {
        let Tally {
            checks,
            redemptions,
            too_few_points,
            returns,
            refunds,
            asked_again,
            notes,
        } = tally;
        self.heading(&format!(
            "October: {} members, {} partners, {DAYS} days in {:.1} s",
            self.town.members.len(),
            SHOPS.len(),
            took.as_secs_f64()
        ));
        let done = [
            (checks, "checks earned points"),
            (redemptions, "were paid with points"),
            (too_few_points, "declined: the member had too few points"),
            (returns, "returns of goods took points back"),
            (
                refunds,
                "redemptions were refunded, to the very lots they came from",
            ),
            (
                asked_again,
                "answers were lost and asked for again: same answer, posted once",
            ),
        ];
        for (count, what) in done {
            println!("{:>7}  {what}", HumanCount(*count).to_string());
        }
        for (day, note) in notes {
            println!("  {:>2} Oct {}", day, self.quiet.apply_to(note));
        }
    }

    /// The matrix of issuers and redeemers.
    pub(super) fn exposures(&self, exposures: &[Exposure]) {
        self.heading("Whose points were spent where: rows issued them, columns took them (points)");
        let points = |issuer: usize, redeemer: usize| {
            let (issuer, redeemer) = (self.id(issuer), self.id(redeemer));
            exposures
                .iter()
                .find(|cell| cell.issuer == issuer && cell.redeemer == redeemer)
                .map_or(0, |cell| cell.points)
        };
        let most = exposures.iter().map(|cell| cell.points).max().unwrap_or(0);
        let mut table = self.table();
        let heads = SHOPS.iter().map(|shop| Cell::new(shop.short));
        table.set_header(std::iter::once(Cell::new("")).chain(heads));
        for (issuer, shop) in SHOPS.iter().enumerate() {
            let cells = (0..SHOPS.len()).map(|redeemer| {
                let points = points(issuer, redeemer);
                let text = if points == 0 {
                    "·".to_owned()
                } else {
                    grouped(points)
                };
                match heat(points, most) {
                    Some((back, front)) if self.colours => Cell::new(text)
                        .bg(Color::AnsiValue(back))
                        .fg(Color::AnsiValue(front)),
                    _ => Cell::new(text),
                }
            });
            table.add_row(std::iter::once(Cell::new(shop.name)).chain(cells));
        }
        Self::print(table, 1);
    }

    /// What each partner did, and is owed.
    pub(super) fn positions(&self, positions: &Positions, settlement: &Settlement) {
        self.heading("What each partner did (points) and is owed (EUR): window 1, closed");
        let mut table = self.table();
        table.set_header([
            "",
            "issued",
            "spent here",
            "spent of",
            "expired",
            "net",
            "owes · is owed",
        ]);
        let net = |party: &str| {
            settlement
                .positions
                .iter()
                .find(|position| position.party == party)
                .and_then(|position| position.net.as_ref())
                .map_or(0, |net| net.amount)
        };
        let most = settlement
            .positions
            .iter()
            .filter_map(|position| position.net.as_ref())
            .map(|net| net.amount.unsigned_abs())
            .max()
            .unwrap_or(0);
        for (n, shop) in SHOPS.iter().enumerate() {
            let id = self.id(n);
            let none = Position::default();
            let position = positions
                .rows
                .iter()
                .find(|row| row.party == id)
                .unwrap_or(&none);
            table.add_row([
                Cell::new(shop.name),
                Cell::new(grouped(position.points_issued)),
                Cell::new(grouped(position.points_redeemed_here)),
                Cell::new(grouped(position.points_redeemed_of)),
                Cell::new(grouped(position.points_expired)),
                Self::signed(net(&id)),
                Self::bar(net(&id), most),
            ]);
        }
        let operator = net(Party::OPERATOR);
        let empty = || Cell::new("");
        table.add_row([
            Cell::new("the operator"),
            empty(),
            empty(),
            empty(),
            empty(),
            Self::signed(operator),
            Self::bar(operator, most),
        ]);
        Self::print(table, 1);
        let sums = positions.sums.iter().map(|sum| sum.sum_micros);
        let sum: String = sums.map(grouped).collect::<Vec<_>>().join(", ");
        println!(
            "{}",
            self.quiet.apply_to(format!(
                "The sum of all positions, the operator's included: {sum} micro-units."
            ))
        );
    }

    /// What is to be paid.
    pub(super) fn payments(&self, settlement: &Settlement) {
        let id = &settlement.settlement_id;
        self.heading(&format!("Payments that settle the window ({id})"));
        let mut table = self.table();
        for obligation in &settlement.obligations {
            let amount = obligation.amount.as_ref().map_or(0, |money| money.amount);
            table.add_row([
                Cell::new(format!("  {}", self.name(&obligation.payer))),
                Cell::new(money(amount)),
                Cell::new(format!("→ {}", self.name(&obligation.payee))),
            ]);
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
            if column.index == 1 {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        println!("{}", table.trim_fmt());
        for total in &settlement.totals {
            let gross = Micros::new(total.gross_micros)
                .to_minor(CURRENCY)
                .map_or(0, Minor::get);
            let paid = total.paid.as_ref().map_or(0, |paid| paid.amount);
            println!(
                "{}",
                self.quiet.apply_to(format!(
                    "Netting turns {} {} of legs into {} {} in {} payments.",
                    money(gross),
                    total.currency_code,
                    money(paid),
                    total.currency_code,
                    settlement.obligations.len(),
                ))
            );
        }
    }

    /// Whether the books balance, with the counts behind it.
    pub(super) async fn books(&self, viewer: &Caller) -> anyhow::Result<bool> {
        self.heading("The books");
        let trial = viewer
            .call(GetTrialBalanceRequest {
                window_id: String::new(),
            })
            .await?;
        Self::points(&trial.accounts)?;
        let summary = self.verified(viewer).await?;
        let equations = trial.equations.len();
        let holding = trial
            .equations
            .iter()
            .filter(|equation| equation.holds)
            .count();
        let balanced = summary.balanced && trial.balanced;
        let VerifySummary {
            postings,
            transfers,
            members,
            lots,
            windows,
            ..
        } = summary;
        let verdict = if balanced {
            self.good.apply_to("✔ Books balance")
        } else {
            self.bad.apply_to("✘ Books do not balance")
        };
        println!(
            "{verdict}: {} postings with {} transfers recomputed into",
            grouped(postings),
            grouped(transfers)
        );
        println!(
            "  {} lots of {} members and {windows} windows; {holding} of {equations} equations hold.",
            grouped(lots),
            grouped(members),
        );
        Ok(balanced)
    }

    /// Where all points went.
    fn points(accounts: &[AccountTotal]) -> anyhow::Result<()> {
        let of = |kind: AccountKind| {
            let balances = accounts
                .iter()
                .filter(|account| account.kind() == kind)
                .map(|account| Points::new(account.balance));
            // Where points come from is owed what they are: its balance is negative.
            Points::sum(balances).map(|sum| group(&sum.get().unsigned_abs().to_string()))
        };
        println!(
            "Points: {} issued, less returns = {} spent, less refunds + {} expired",
            of(AccountKind::Issued)?,
            of(AccountKind::Redeemed)?,
            of(AccountKind::Expired)?,
        );
        println!(
            "        + {} to spend + {} pending − {} owed by members",
            of(AccountKind::Available)?,
            of(AccountKind::Pending)?,
            of(AccountKind::Debt)?,
        );
        Ok(())
    }

    async fn verified(&self, viewer: &Caller) -> anyhow::Result<VerifySummary> {
        let bar = ProgressBar::new(0);
        let mut news = viewer.verify().await?;
        while let Some(new) = news.try_next().await.context("checking the books")? {
            match new.event {
                Some(Event::Progress(progress)) => {
                    bar.set_length(u64::try_from(progress.postings_total)?);
                    bar.set_position(u64::try_from(progress.postings_checked)?);
                }
                Some(Event::Finding(finding)) => println!(
                    "{} {}, {}: {} instead of {}",
                    self.bad.apply_to("✘"),
                    finding.r#where,
                    finding.what,
                    finding.found,
                    finding.expected
                ),
                Some(Event::Summary(summary)) => {
                    bar.finish_and_clear();
                    return Ok(summary);
                }
                None => {}
            }
        }
        bail!("the check of the books ended without a summary")
    }

    /// How to call the network.
    pub(super) fn invitation(&self, endpoint: &str, data_dir: &Path, town: &Town) {
        let address = endpoint.trim_start_matches("http://");
        let binary = std::env::args()
            .next()
            .unwrap_or_else(|| "coalition".to_owned());
        let data = data_dir.display();
        let member = town.members.first().map_or("", String::as_str);
        self.heading(&format!(
            "The network stays up at {address}; Ctrl-C ends it. Try, elsewhere:"
        ));
        println!(
            r#"TOKEN=$({binary} token --data-dir {data} --role operator_viewer)

grpcurl -plaintext -H "authorization: Bearer $TOKEN" -d '{{"page_size": 3}}' \
  {address} coalition.settlement.v1.SettlementService/ListExposures

buf curl --protocol grpc --http2-prior-knowledge -H "authorization: Bearer $TOKEN" \
  -d '{{"member_id": "{member}"}}' \
  {endpoint}/coalition.member.v1.MemberService/GetBalance"#
        );
    }

    fn heading(&self, text: &str) {
        println!("\n{}", self.heading.apply_to(text));
    }

    fn id(&self, shop: usize) -> String {
        self.town.partners[shop].to_string()
    }

    /// The name of a party.
    fn name<'b>(&self, party: &'b str) -> &'b str {
        let shop = (0..SHOPS.len()).find(|n| self.id(*n) == party);
        match shop {
            Some(shop) => SHOPS[shop].name,
            None if party == Party::OPERATOR => "the operator",
            None => party,
        }
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(STYLE);
        if self.colours {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table
    }

    /// Prints a table whose figures, from this column on, stand to the right.
    fn print(mut table: Table, figures: usize) {
        for column in table.column_iter_mut() {
            column.set_padding((0, 1));
            if column.index >= figures {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        println!("{}", table.trim_fmt());
    }

    fn signed(minor: i64) -> Cell {
        let cell = Cell::new(money(minor)).add_attribute(Attribute::Bold);
        if minor < 0 {
            cell.fg(Color::Red)
        } else {
            cell.fg(Color::Green)
        }
    }

    /// A bar to the left for who owes, to the right for who is owed.
    fn bar(minor: i64, most: u64) -> Cell {
        let length = (minor.unsigned_abs() * BAR_HALF as u64).div_ceil(most.max(1));
        let length = usize::try_from(length).unwrap_or(BAR_HALF).min(BAR_HALF);
        let bar = "█".repeat(length);
        if minor < 0 {
            let text = format!("{bar:>BAR_HALF$}│{:BAR_HALF$}", "");
            Cell::new(text).fg(Color::Red)
        } else {
            let text = format!("{:BAR_HALF$}│{bar:<BAR_HALF$}", "");
            Cell::new(text).fg(Color::Green)
        }
    }
}

/// The colours of a cell of the matrix: the more, the warmer; none for nothing. By the root, as most
/// cells are far below the largest.
fn heat(points: i64, most: i64) -> Option<(u8, u8)> {
    let points = u64::try_from(points).ok().filter(|points| *points > 0)?;
    let root = |number: u64| number.isqrt().max(1);
    let steps = HEAT.len() as u64;
    let step = (root(points) * steps).div_ceil(root(most.unsigned_abs()));
    HEAT.get(usize::try_from(step.clamp(1, steps) - 1).ok()?)
        .copied()
}

/// An amount of minor units in major units, with its thousands grouped.
fn money(minor: i64) -> String {
    let major = Minor::new(minor)
        .to_major(CURRENCY)
        .unwrap_or_default()
        .to_string();
    match major.split_once('.') {
        Some((whole, cents)) => format!("{}.{cents}", group(whole)),
        None => group(&major),
    }
}

/// A number with its thousands grouped.
fn grouped(number: i64) -> String {
    group(&number.to_string())
}

fn group(digits: &str) -> String {
    let (sign, digits) = digits
        .strip_prefix('-')
        .map_or(("", digits), |rest| ("-", rest));
    let mut grouped = sign.to_owned();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(-999), "-999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(-1_234_567), "-1,234,567");
        assert_eq!(money(-123_456), "-1,234.56");
        assert_eq!(money(7), "0.07");
    }

    #[test]
    fn heat_grows_with_points() {
        assert_eq!(heat(0, 100), None);
        assert_eq!(heat(-5, 100), None);
        assert_eq!(heat(1, 10_000), Some(HEAT[0]));
        assert_eq!(heat(2_500, 10_000), Some(HEAT[2]));
        assert_eq!(heat(10_000, 10_000), Some(HEAT[5]));
    }
}
