//! Random scripts: what tills and operators do in a random network, right and wrong.
//!
//! A script says *which* (the third earn so far), a [`Clerk`] makes commands of it. Commands that
//! name a transaction by its id carry the id's place instead, because every run of a script has
//! ids of its own.

use coalition_ledger::command::{
    Action, CheckAmounts, Command, Earn, Fingerprint, Fund, Original, Redeem, RefundRedemption,
    RequestKey, ReturnEarn, Reverse,
};
use coalition_ledger::ids::TransactionId;
use coalition_ledger::money::{Minor, Points};
use coalition_ledger::time::Timestamp;
use coalition_ledger::transaction::{Context, Kind};
use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;

use super::World;
use crate::model::{Model, spendable};
use crate::support::commands::{scope_of, sweep};
use crate::support::{DAY, HOUR, MINUTE, deposit, earn, enroll, member, partner};

/// Members that every script enrols; the last one is frozen.
pub(crate) const MEMBERS: u8 = 4;

/// A batch, after the clock moved.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) advance: i64,
    /// Whether the window is cut before the batch.
    pub(crate) cut: bool,
    ops: Vec<Op>,
}

#[derive(Clone, Debug)]
enum Op {
    Earn {
        partner: u8,
        member: u8,
        amounts: [u16; 5],
        late: i64,
        check: Option<u8>,
    },
    Return {
        of: u8,
        part: Part,
        by: By,
        stray: bool,
        slip: Option<u8>,
    },
    Redeem {
        partner: u8,
        member: u8,
        ask: Part,
        total: Option<u16>,
        check: Option<u8>,
    },
    Refund {
        of: u8,
        part: Part,
        by: By,
        stray: bool,
        slip: Option<u8>,
    },
    Reverse {
        of: u8,
        check: Option<u8>,
    },
    ReverseUnknown {
        partner: u8,
        kind: Kind,
    },
    LateArrival {
        of: u8,
        member: u8,
    },
    Fund {
        partner: u8,
        withdrawal: bool,
        amount: u16,
    },
    Sweep(u8),
    Again(u8),
    OtherBody(u8),
}

/// How much of what there is.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// All that is left.
    Rest,
    /// So many 256ths of the whole.
    Of256(u8),
    /// So much, whatever there is.
    Exactly(u16),
}

#[derive(Clone, Copy, Debug)]
enum By {
    Transaction,
    Check,
    Request,
}

/// Random scripts.
pub(crate) fn scripts() -> impl Strategy<Value = Vec<Step>> {
    let advance = prop_oneof![
        4 => Just(0),
        2 => 0..=36 * HOUR,
        1 => 0..=12 * DAY,
    ];
    let ops = prop::collection::vec(ops(), 1..=7);
    let step = (advance, prop::bool::weighted(0.1), ops).prop_map(|(advance, cut, ops)| Step {
        advance,
        cut,
        ops,
    });
    prop::collection::vec(step, 1..=8)
}

fn ops() -> impl Strategy<Value = Op> {
    // Mostly partners that trade; now and then the suspended one or an unknown one.
    let partner = || prop_oneof![9 => 0..=4_u8, 1 => 5..=8_u8];
    let member = || prop_oneof![9 => 0..=1_u8, 3 => Just(2), 1 => Just(3), 1 => Just(4)];
    let part = || {
        prop_oneof![
            3 => Just(Part::Rest),
            4 => any::<u8>().prop_map(Part::Of256),
            1 => (1..=3_000_u16).prop_map(Part::Exactly),
        ]
    };
    let by = || select(vec![By::Transaction, By::Check, By::Request]);
    let stray = || prop::bool::weighted(0.05);
    // Few numbers, so that checks and slips meet again.
    let check = || prop::option::weighted(0.3, 0..=9_u8);
    let late = prop_oneof![
        8 => Just(0),
        2 => -8 * DAY..=0_i64,
        1 => 0..=6 * MINUTE,
    ];
    let amounts = prop_oneof![
        8 => (1..=9_000_u16).prop_map(|gross| [gross, 0, 0, 0, 0]),
        3 => any::<[u8; 5]>().prop_map(|a| a.map(u16::from)),
        1 => Just([0; 5]),
    ];
    prop_oneof![
        12 => (partner(), member(), amounts, late, check()).prop_map(
            |(partner, member, amounts, late, check)| Op::Earn { partner, member, amounts, late, check }
        ),
        5 => (any::<u8>(), part(), by(), stray(), check())
            .prop_map(|(of, part, by, stray, slip)| Op::Return { of, part, by, stray, slip }),
        9 => (partner(), member(), part(), prop::option::of(1..=9_000_u16), check()).prop_map(
            |(partner, member, ask, total, check)| Op::Redeem { partner, member, ask, total, check }
        ),
        5 => (any::<u8>(), part(), by(), stray(), check())
            .prop_map(|(of, part, by, stray, slip)| Op::Refund { of, part, by, stray, slip }),
        3 => (any::<u8>(), check()).prop_map(|(of, check)| Op::Reverse { of, check }),
        1 => (partner(), select(vec![Kind::Earn, Kind::Redeem]))
            .prop_map(|(partner, kind)| Op::ReverseUnknown { partner, kind }),
        1 => (any::<u8>(), member()).prop_map(|(of, member)| Op::LateArrival { of, member }),
        2 => (partner(), any::<bool>(), any::<u16>())
            .prop_map(|(partner, withdrawal, amount)| Op::Fund { partner, withdrawal, amount }),
        2 => member().prop_map(Op::Sweep),
        2 => any::<u8>().prop_map(Op::Again),
        1 => any::<u8>().prop_map(Op::OtherBody),
    ]
}

/// A command, and the place of the one whose transaction it names by id.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    command: Command,
    names: Option<usize>,
}

impl Draft {
    /// The command with the ids that a run gave to the commands before.
    pub(crate) fn with_ids(&self, ids: &[Option<TransactionId>]) -> Command {
        let mut command = self.command.clone();
        let id = self
            .names
            .and_then(|place| ids.get(place).copied().flatten());
        if let Some(id) = id {
            match &mut command.action {
                Action::ReturnEarn(ret) => ret.original = Original::Transaction(id),
                Action::RefundRedemption(refund) => refund.original = Original::Transaction(id),
                _ => {}
            }
        }
        command
    }
}

/// Makes commands of a script, and remembers them.
#[derive(Clone, Debug)]
pub(crate) struct Clerk {
    world: World,
    /// All commands so far, those of the batch in the making included.
    history: Vec<Draft>,
    /// Where the batch in the making begins.
    batch: usize,
}

impl Clerk {
    pub(crate) fn new(world: World) -> Self {
        Self {
            world,
            history: Vec::new(),
            batch: 0,
        }
    }

    /// The batches that every script begins with: members enrol, partners pay in, and everybody
    /// shops everywhere.
    pub(crate) fn opening(&mut self) -> [Vec<Draft>; 2] {
        for number in 0..MEMBERS {
            self.add(enroll(member(number)));
        }
        let members = self.take_batch();
        for number in 0..self.world.partners() {
            let currency = self.world.currency(number);
            self.add(Action::Fund(Fund {
                currency,
                ..deposit(partner(number), Minor::new(5_000))
            }));
            for buyer in 0..MEMBERS {
                self.add(Action::Earn(Earn {
                    currency,
                    ..earn(partner(number), member(buyer), Minor::new(4_000))
                }));
            }
        }
        [members, self.take_batch()]
    }

    /// The commands of a step; `model` knows what is there as the step begins.
    pub(crate) fn batch(&mut self, step: &Step, model: &Model) -> Vec<Draft> {
        for op in &step.ops {
            self.draft(op, model);
        }
        self.take_batch()
    }

    fn take_batch(&mut self) -> Vec<Draft> {
        let batch = self.history[self.batch..].to_vec();
        self.batch = self.history.len();
        batch
    }

    fn add(&mut self, action: Action) {
        let number = u128::try_from(self.history.len() + 1).expect("few");
        let key = RequestKey {
            id: Uuid::from_u128(number),
            scope: scope_of(&action),
        };
        self.history.push(Draft {
            command: Command {
                request: Some((key, digest(0))),
                action,
            },
            names: None,
        });
    }

    fn draft(&mut self, op: &Op, model: &Model) {
        let now = Timestamp::from_micros(model.now);
        match op {
            Op::Earn {
                partner,
                member: number,
                amounts,
                late,
                check,
            } => {
                let partner_number = self.partner(*partner);
                let [gross, discounts, tax, gift_card, points] =
                    amounts.map(i64::from).map(Minor::new);
                self.add(Action::Earn(Earn {
                    partner: partner_of(partner_number),
                    member: member(*number),
                    amounts: CheckAmounts {
                        gross,
                        discounts,
                        tax,
                        tip: tax,
                        gift_card,
                        paid_with_points: points,
                    },
                    currency: self.world.currency(partner_number),
                    occurred_at: (*late != 0).then(|| now.saturating_add_micros(*late)),
                    context: context("c", *check),
                }));
            }
            Op::Return {
                of,
                part,
                by,
                stray,
                slip,
            } => {
                let Some((place, earn)) = self.earlier(*of, |action| match action {
                    Action::Earn(earn) => Some(earn.clone()),
                    _ => None,
                }) else {
                    return;
                };
                let (_, left) = self.left(place, model);
                self.add(Action::ReturnEarn(ReturnEarn {
                    partner: if *stray { partner(0) } else { earn.partner },
                    original: self.original(place, earn.context.check_id.as_ref(), *by),
                    returned: Minor::new(part.of(left.unwrap_or(earn.amounts.gross.get()))),
                    currency: earn.currency,
                    occurred_at: None,
                    context: context("r", *slip),
                }));
                self.name(place, *by);
            }
            Op::Redeem {
                partner,
                member: number,
                ask,
                total,
                check,
            } => {
                let partner_number = self.partner(*partner);
                let holder = model.holders.get(&member(*number));
                let balance = holder.map_or(0, |holder| spendable(&holder.balance()));
                let currency = self.world.currency(partner_number);
                self.add(Action::Redeem(Redeem {
                    partner: partner_of(partner_number),
                    member: member(*number),
                    points: Points::new(ask.of(balance)),
                    check_total: total.map(|total| (Minor::new(i64::from(total)), currency)),
                    occurred_at: None,
                    context: context("c", *check),
                }));
            }
            Op::Refund {
                of,
                part,
                by,
                stray,
                slip,
            } => {
                let Some((place, redeem)) = self.earlier(*of, |action| match action {
                    Action::Redeem(redeem) => Some(redeem.clone()),
                    _ => None,
                }) else {
                    return;
                };
                let (left, _) = self.left(place, model);
                self.add(Action::RefundRedemption(RefundRedemption {
                    partner: if *stray { partner(0) } else { redeem.partner },
                    original: self.original(place, redeem.context.check_id.as_ref(), *by),
                    points: Points::new(part.of(left.unwrap_or(redeem.points.get()))),
                    occurred_at: None,
                    context: context("r", *slip),
                }));
                self.name(place, *by);
            }
            Op::Reverse { of, check } => {
                let Some((place, (partner, kind))) = self.earlier(*of, |action| match action {
                    Action::Earn(earn) => Some((earn.partner, Kind::Earn)),
                    Action::Redeem(redeem) => Some((redeem.partner, Kind::Redeem)),
                    Action::ReturnEarn(ret) => Some((ret.partner, Kind::Earn)),
                    _ => None,
                }) else {
                    return;
                };
                let original_request = self.request(place).id;
                let context = context("c", *check);
                let occurred_at = None;
                self.add(Action::Reverse(Reverse {
                    partner,
                    kind,
                    original_request,
                    occurred_at,
                    context,
                }));
            }
            Op::ReverseUnknown { partner, kind } => {
                let partner = partner_of(self.partner(*partner));
                let number = u128::try_from(self.history.len() + 1).expect("few");
                self.add(Action::Reverse(Reverse {
                    partner,
                    kind: *kind,
                    original_request: late_request(number),
                    occurred_at: None,
                    context: Context::default(),
                }));
            }
            Op::LateArrival { of, member: number } => {
                let Some((_, (partner, id))) = self.earlier(*of, |action| match action {
                    Action::Reverse(reverse) => Some((reverse.partner, reverse.original_request)),
                    _ => None,
                }) else {
                    return;
                };
                let points = Points::new(10);
                let member = member(*number);
                let (check_total, occurred_at, context) = (None, None, Context::default());
                let action = Action::Redeem(Redeem {
                    partner,
                    member,
                    points,
                    check_total,
                    occurred_at,
                    context,
                });
                let key = RequestKey {
                    id,
                    scope: partner.uuid(),
                };
                let request = Some((key, digest(2)));
                self.history.push(Draft {
                    command: Command { request, action },
                    names: None,
                });
            }
            Op::Fund {
                partner,
                withdrawal,
                amount,
            } => {
                let partner = self.partner(*partner);
                self.add(Action::Fund(Fund {
                    partner: partner_of(partner),
                    withdrawal: *withdrawal,
                    amount: Minor::new(i64::from(*amount) + 1),
                    currency: self.world.currency(partner),
                    bank_reference: String::from("bank"),
                }));
            }
            Op::Sweep(number) => {
                self.history.push(Draft {
                    command: sweep(member(*number)),
                    names: None,
                });
            }
            Op::Again(of) => {
                if let Some(place) = usize::from(*of).checked_rem(self.history.len()) {
                    let again = self.history[place].clone();
                    self.history.push(again);
                }
            }
            Op::OtherBody(of) => {
                let Some(place) = usize::from(*of).checked_rem(self.history.len()) else {
                    return;
                };
                let mut other = self.history[place].clone();
                if let Some((_, fingerprint)) = &mut other.command.request {
                    *fingerprint = digest(1);
                }
                self.history.push(other);
            }
        }
    }

    /// Partners that trade, the suspended one, and one that nobody knows.
    fn partner(&self, number: u8) -> u8 {
        let trading = self.world.partners();
        if number < 5 {
            number % trading
        } else {
            trading + number % 2
        }
    }

    /// The command of a kind that a random number picks, with its place.
    fn earlier<T>(&self, of: u8, pick: impl Fn(&Action) -> Option<T>) -> Option<(usize, T)> {
        let all = self.history.iter().enumerate();
        let mut found: Vec<(usize, T)> = all
            .filter_map(|(place, draft)| Some((place, pick(&draft.command.action)?)))
            .collect();
        let place = usize::from(of).checked_rem(found.len())?;
        Some(found.swap_remove(place))
    }

    fn request(&self, place: usize) -> RequestKey {
        self.history[place].command.request.expect("not a sweep").0
    }

    /// Points and amount that are left of a command's transaction.
    fn left(&self, place: usize, model: &Model) -> (Option<i64>, Option<i64>) {
        model.open_of(self.request(place)).unzip()
    }

    fn original(&self, place: usize, check: Option<&String>, by: By) -> Original {
        match (by, check) {
            (By::Check, Some(check)) => Original::Check(check.clone()),
            _ => Original::Request(self.request(place).id),
        }
    }

    /// Has the last command name the transaction of an earlier batch by its id.
    fn name(&mut self, place: usize, by: By) {
        if matches!(by, By::Transaction)
            && place < self.batch
            && let Some(draft) = self.history.last_mut()
        {
            draft.names = Some(place);
        }
    }
}

impl Part {
    /// At least 1, as services see to it.
    fn of(self, whole: i64) -> i64 {
        let part = match self {
            Self::Rest => whole,
            Self::Of256(part) => whole * i64::from(part) / 256,
            Self::Exactly(part) => i64::from(part),
        };
        part.max(1)
    }
}

fn partner_of(number: u8) -> coalition_ledger::ids::PartnerId {
    partner(number)
}

fn context(prefix: &str, number: Option<u8>) -> Context {
    let check_id = number.map(|number| format!("{prefix}{number}"));
    Context {
        check_id,
        ..Context::default()
    }
}

fn digest(body: u8) -> Fingerprint {
    [body; 16]
}

/// A request that was never sent when its reversal was.
fn late_request(number: u128) -> Uuid {
    Uuid::from_u128(0xffff_0000 + number)
}
