//! The till's own words: where, when and on which check.

use coalition_ledger::transaction::{Channel, Context};
use coalition_proto::common as pb;

use crate::auth::identity::Identity;
use crate::request::place;
use crate::status::Problem;

/// The context of a call, with the location and the terminal that the token is bound to.
///
/// Comes before the rules on the fields: that a token is bound elsewhere is no matter of form.
///
/// # Errors
///
/// PERMISSION_DENIED where the call names another location or terminal than the token's.
pub fn context(identity: &Identity, said: Option<&pb::PosContext>) -> Result<Context, Problem> {
    let none = pb::PosContext::default();
    let said = said.unwrap_or(&none);
    Ok(Context {
        check_id: text(&said.check_id),
        location: text(place(identity.location(), &said.location)?),
        terminal: text(place(identity.terminal(), &said.terminal)?),
        operator_ref: text(&said.operator_ref),
        shift_ref: text(&said.shift_ref),
        business_date: text(&said.business_date),
        channel: said.channel.and_then(channel),
        offline: said.offline,
    })
}

fn text(said: &str) -> Option<String> {
    (!said.is_empty()).then(|| said.to_owned())
}

fn channel(number: i32) -> Option<Channel> {
    match pb::Channel::try_from(number).ok()? {
        pb::Channel::Unspecified => None,
        pb::Channel::InStore => Some(Channel::InStore),
        pb::Channel::Online => Some(Channel::Online),
        pb::Channel::App => Some(Channel::App),
        pb::Channel::Phone => Some(Channel::Phone),
        pb::Channel::Kiosk => Some(Channel::Kiosk),
        pb::Channel::Delivery => Some(Channel::Delivery),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_channel_of_the_proto_is_kept() {
        let kept: Vec<_> = (1..=6).filter_map(channel).collect();
        assert_eq!(kept.len(), 6);
        assert_eq!(channel(0), None);
        assert_eq!(channel(99), None);
    }
}
