//! What makes a write safe to repeat: whose request it is, under which id, with which content.

use aws_lc_rs::digest;
use coalition_ledger::command::{Fingerprint, RequestKey};
use coalition_ledger::ids::PartnerId;
use prost::Message;
use tonic::Request;
use uuid::Uuid;

use crate::auth::identity::Identity;
use crate::call::Call;
use crate::request::request_id;
use crate::status::Problem;

/// The request's name, and a digest of its content.
///
/// Ids are scoped to the caller's partner; those who act for the network share one scope, whichever
/// partner they act for.
///
/// # Errors
///
/// INVALID_ARGUMENT if `id` is not a request id.
pub fn asked<M: Message>(
    request: &Request<M>,
    caller: &Identity,
    id: &str,
) -> Result<(RequestKey, Fingerprint), Problem> {
    let method = request
        .extensions()
        .get::<Call>()
        .map_or("", |call| call.method().path());
    Ok((
        request_key(caller.partner(), id)?,
        fingerprint(method, request.get_ref()),
    ))
}

/// The name of a request of this partner's; of those who act for the network where there is none.
///
/// # Errors
///
/// As [`asked`].
pub fn request_key(partner: Option<PartnerId>, id: &str) -> Result<RequestKey, Problem> {
    Ok(RequestKey {
        id: request_id(id)?,
        scope: partner.map_or(Uuid::nil(), PartnerId::uuid),
    })
}

/// SHA-256 over the method and the message as this process encodes it, cut to 16 bytes: the same
/// fields have the same digest, whatever their order or spelling on the wire.
fn fingerprint<M: Message>(method: &str, message: &M) -> Fingerprint {
    let mut digest = digest::Context::new(&digest::SHA256);
    // The method ends with a byte that no path contains.
    digest.update(method.as_bytes());
    digest.update(&[0]);
    digest.update(&message.encode_to_vec());
    let whole = digest.finish();
    let mut fingerprint = Fingerprint::default();
    fingerprint
        .iter_mut()
        .zip(whole.as_ref())
        .for_each(|(to, from)| *to = *from);
    fingerprint
}

#[cfg(test)]
mod tests {
    use coalition_proto::redeem::RedeemRequest;

    use super::*;

    #[test]
    fn row_22_content_and_method_make_the_fingerprint() {
        let request = |points| RedeemRequest {
            points,
            ..RedeemRequest::default()
        };
        let one = fingerprint("/a/B", &request(1));
        assert_eq!(one, fingerprint("/a/B", &request(1)));
        assert_ne!(one, fingerprint("/a/B", &request(2)));
        assert_ne!(one, fingerprint("/a/C", &request(1)));
    }
}
