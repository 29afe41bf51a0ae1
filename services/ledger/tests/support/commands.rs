//! Short ways to write commands: what is not said is as plain as can be.

use std::hash::{DefaultHasher, Hash, Hasher};

use coalition_ledger::command::{
    Action, CheckAmounts, Command, Earn, Enroll, Fingerprint, Fund, Original, Redeem,
    RefundRedemption, RequestKey, ReturnEarn, Reverse,
};
use coalition_ledger::ids::{MemberId, PartnerId};
use coalition_ledger::money::{Currency, Minor, Points};
use coalition_ledger::transaction::{Context, Kind};
use uuid::Uuid;

/// An action under a request id in a caller's scope.
pub(crate) fn command(request: u128, scope: Uuid, action: Action) -> Command {
    let key = RequestKey {
        id: Uuid::from_u128(request),
        scope,
    };
    Command {
        request: Some((key, fingerprint(&action))),
        action,
    }
}

/// A digest of the action's content, as a service would take one of its message.
fn fingerprint(action: &Action) -> Fingerprint {
    let mut hasher = DefaultHasher::new();
    format!("{action:?}").hash(&mut hasher);
    u128::from(hasher.finish()).to_be_bytes()
}

/// In whose scope an action's request id stands: the caller's partner, or the operators.
pub(crate) fn scope_of(action: &Action) -> Uuid {
    match action {
        Action::Earn(Earn { partner, .. })
        | Action::ReturnEarn(ReturnEarn { partner, .. })
        | Action::Redeem(Redeem { partner, .. })
        | Action::RefundRedemption(RefundRedemption { partner, .. })
        | Action::Reverse(Reverse { partner, .. }) => partner.uuid(),
        Action::Enroll(_) | Action::Fund(_) | Action::Sweep(_) => Uuid::nil(),
    }
}

pub(crate) fn checked(check_id: &str) -> Context {
    Context {
        check_id: Some(check_id.to_owned()),
        ..Context::default()
    }
}

pub(crate) fn enroll(member: MemberId) -> Action {
    Action::Enroll(Enroll {
        member,
        identifiers: Vec::new(),
    })
}

pub(crate) fn earn(partner: PartnerId, member: MemberId, gross: Minor) -> Earn {
    Earn {
        partner,
        member,
        amounts: CheckAmounts {
            gross,
            ..CheckAmounts::default()
        },
        currency: Currency::EUR,
        occurred_at: None,
        context: Context::default(),
    }
}

pub(crate) fn return_earn(partner: PartnerId, original: Original, returned: Minor) -> ReturnEarn {
    ReturnEarn {
        partner,
        original,
        returned,
        currency: Currency::EUR,
        occurred_at: None,
        context: Context::default(),
    }
}

pub(crate) fn redeem(partner: PartnerId, member: MemberId, points: i64) -> Redeem {
    Redeem {
        partner,
        member,
        points: Points::new(points),
        check_total: None,
        occurred_at: None,
        context: Context::default(),
    }
}

pub(crate) fn refund(partner: PartnerId, original: Original, points: i64) -> RefundRedemption {
    RefundRedemption {
        partner,
        original,
        points: Points::new(points),
        occurred_at: None,
        context: Context::default(),
    }
}

pub(crate) fn reverse(partner: PartnerId, kind: Kind, original_request: Uuid) -> Reverse {
    Reverse {
        partner,
        kind,
        original_request,
        occurred_at: None,
        context: Context::default(),
    }
}

pub(crate) fn deposit(partner: PartnerId, amount: Minor) -> Fund {
    Fund {
        partner,
        withdrawal: false,
        amount,
        currency: Currency::EUR,
        bank_reference: String::from("bank"),
    }
}

pub(crate) fn withdraw(partner: PartnerId, amount: Minor) -> Fund {
    Fund {
        withdrawal: true,
        ..deposit(partner, amount)
    }
}

pub(crate) fn sweep(member: MemberId) -> Command {
    Command {
        request: None,
        action: Action::Sweep(member),
    }
}

/// What can be asked of a network: a command of any kind.
pub(crate) trait IntoAction {
    fn into_action(self) -> Action;
}

impl IntoAction for Action {
    fn into_action(self) -> Action {
        self
    }
}

macro_rules! actions {
    ($($kind:ident),+) => {
        $(
            impl IntoAction for $kind {
                fn into_action(self) -> Action {
                    Action::$kind(self)
                }
            }
        )+
    };
}

actions!(
    Enroll,
    Earn,
    ReturnEarn,
    Redeem,
    RefundRedemption,
    Reverse,
    Fund
);
