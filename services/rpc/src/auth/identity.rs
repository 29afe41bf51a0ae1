//! Who is calling, as a verified token says.
//!
//! An [`Identity`] is made by the token check and by nothing else. It travels with a call in its
//! request extensions, which no header can reach.

use coalition_ledger::ids::PartnerId;
use coalition_proto::policy::{Policy, Role};

/// The caller of a verified token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub(super) subject: Box<str>,
    pub(super) roles: RoleSet,
    pub(super) partner: Option<PartnerId>,
    pub(super) location: Option<Box<str>>,
    pub(super) terminal: Option<Box<str>>,
    pub(super) scopes: Option<Box<[Box<str>]>>,
    pub(super) token_id: Box<str>,
}

impl Identity {
    /// Whom the token was given to (claim `sub`). May name a person: not for logs.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What the caller may be.
    #[must_use]
    pub fn roles(&self) -> RoleSet {
        self.roles
    }

    /// The partner the caller acts for; `None` for those who act for the network.
    #[must_use]
    pub fn partner(&self) -> Option<PartnerId> {
        self.partner
    }

    /// The one location that the token is bound to, if it is.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// The one terminal that the token is bound to, if it is.
    #[must_use]
    pub fn terminal(&self) -> Option<&str> {
        self.terminal.as_deref()
    }

    /// The id of the token (claim `jti`), fit for logs.
    #[must_use]
    pub fn token_id(&self) -> &str {
        &self.token_id
    }

    /// Whether the policy of an RPC lets this caller in: one of its roles, and its scope where the
    /// token names scopes.
    #[must_use]
    pub fn may(&self, policy: &Policy) -> bool {
        let role = policy.roles.iter().any(|&role| self.roles.contains(role));
        let scope = match &self.scopes {
            None => true,
            Some(scopes) => scopes.iter().any(|scope| **scope == *policy.scope),
        };
        role && scope
    }
}

/// A set of roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoleSet(u8);

impl RoleSet {
    /// Whether the role is in the set.
    #[must_use]
    pub fn contains(self, role: Role) -> bool {
        self.0 & Self::bit(role) != 0
    }

    /// Whether there is no role in the set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the set holds a role that acts for one partner.
    #[must_use]
    pub fn of_partner(self) -> bool {
        self.contains(Role::Pos) || self.contains(Role::PartnerAdmin)
    }

    /// Whether the set holds a role that acts for the network.
    #[must_use]
    pub fn of_network(self) -> bool {
        let partner = Self::bit(Role::Pos) | Self::bit(Role::PartnerAdmin);
        self.0 & !partner != 0
    }

    fn bit(role: Role) -> u8 {
        match role {
            Role::Pos => 1,
            Role::PartnerAdmin => 1 << 1,
            Role::OperatorViewer => 1 << 2,
            Role::OperatorMaker => 1 << 3,
            Role::OperatorChecker => 1 << 4,
            Role::SupportAgent => 1 << 5,
        }
    }
}

impl FromIterator<Role> for RoleSet {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(roles.into_iter().fold(0, |set, role| set | Self::bit(role)))
    }
}
