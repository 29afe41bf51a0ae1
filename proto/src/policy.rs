//! Who may call what: the access policy of every RPC, as declared on it in the protos.
//!
//! The table is written by the build script, which fails for an RPC without a policy. Health and
//! reflection are not in it: they are not RPCs of ours. What the policies mean to a call is decided by
//! the authorisation layer, not here.

use std::fmt;

/// The access policy of one RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The RPC as in an HTTP/2 path: `/coalition.earn.v1.EarnService/Earn`.
    pub method: &'static str,
    /// A caller needs one of these roles. Empty only where `public` is set.
    pub roles: &'static [Role],
    /// A token with a `scope` claim must name this one: `earn:write`.
    pub scope: &'static str,
    /// The allowance the call is counted against, and how long it may run.
    pub quota: QuotaClass,
    /// Callable without a token.
    pub public: bool,
}

/// What a caller may be. See `coalition/access/v1/access.proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Role {
    /// A till of one partner.
    Pos,
    /// One partner's own figures and agreements.
    PartnerAdmin,
    /// Reads everything, changes nothing.
    OperatorViewer,
    /// Prepares for the operator.
    OperatorMaker,
    /// Approves for the operator.
    OperatorChecker,
    /// Helps members.
    SupportAgent,
}

/// The allowance a call is counted against. See `coalition/access/v1/access.proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QuotaClass {
    /// A guest is waiting at the till.
    Till,
    /// Figures and lists.
    Read,
    /// Rare changes by people.
    Admin,
    /// Work over a whole window or over all books.
    Bulk,
}

/// The policy of the RPC with this HTTP/2 path (`/package.Service/Method`). `None` if there is no such
/// RPC.
#[must_use]
pub fn lookup(path: &str) -> Option<&'static Policy> {
    POLICIES
        .binary_search_by(|policy| policy.method.cmp(path))
        .ok()
        .map(|found| &POLICIES[found])
}

/// The policies of all RPCs, sorted by path.
#[must_use]
pub fn all() -> &'static [Policy] {
    &POLICIES
}

impl Role {
    /// All roles, in the order of their proto numbers.
    pub const ALL: [Self; 6] = [
        Self::Pos,
        Self::PartnerAdmin,
        Self::OperatorViewer,
        Self::OperatorMaker,
        Self::OperatorChecker,
        Self::SupportAgent,
    ];

    /// The name in a token's `roles` claim, for example `partner_admin`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pos => "pos",
            Self::PartnerAdmin => "partner_admin",
            Self::OperatorViewer => "operator_viewer",
            Self::OperatorMaker => "operator_maker",
            Self::OperatorChecker => "operator_checker",
            Self::SupportAgent => "support_agent",
        }
    }

    /// The role with this name in a token's `roles` claim. `None` for any other text.
    #[must_use]
    pub fn from_claim(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

include!(concat!(env!("OUT_DIR"), "/policies.rs"));
