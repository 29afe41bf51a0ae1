//! What every write of a till says beside its business: for whom, where and when, under which id.

use coalition_ledger::Timestamp;
use coalition_ledger::command::{Fingerprint, RequestKey};
use coalition_ledger::ids::PartnerId;
use coalition_ledger::transaction::Context;
use coalition_proto::common::PosContext;
use coalition_proto::validate::Validate;
use prost::Message;
use tonic::Request;
use uuid::Uuid;

use super::{asked, pos, time};
use crate::request::{acting_partner, identity, request_id, valid};
use crate::status::Problem;

/// A till, as its call describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Till {
    /// The partner that the call acts for.
    pub partner: PartnerId,
    /// Where it stands, and on which check.
    pub context: Context,
    /// When it happened, if the till says so.
    pub occurred_at: Option<Timestamp>,
}

impl Till {
    /// Reads a call in the order that all handlers keep: who calls, for whom, the rules on the fields,
    /// the name and the content of the request.
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED where a till names another partner or place than its own; INVALID_ARGUMENT
    /// where the message breaks its rules.
    pub fn of<M: Message + Validate>(
        request: &Request<M>,
        partner: &str,
        said: Option<&PosContext>,
        id: &str,
    ) -> Result<((RequestKey, Fingerprint), Self), Problem> {
        let caller = identity(request)?;
        let partner = acting_partner(caller, partner)?;
        let context = pos::context(caller, said)?;
        valid(request.get_ref())?;
        let asked = asked(request, caller, id)?;
        let occurred_at = said.and_then(|said| said.occurred_at.as_ref());
        let till = Self {
            partner,
            context,
            occurred_at: time::maybe_instant("context.occurred_at", occurred_at)?,
        };
        Ok((asked, till))
    }
}

/// The request that a reversal by reference undoes.
///
/// # Errors
///
/// INVALID_ARGUMENT if it is no request id.
pub fn original_request(text: &str) -> Result<Uuid, Problem> {
    request_id(text)
        .map_err(|_| Problem::invalid("original_request_id", "must be a UUID, and is required"))
}
