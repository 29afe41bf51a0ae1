//! Names for requests.
//!
//! A name that follows from what is asked makes a whole run repeatable: a run that broke off is
//! started again over the same network, and what was done already answers as it did then.

use coalition_ledger::Timestamp;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Makes the request ids of one run out of what the requests are about.
#[derive(Clone, Debug)]
pub struct RequestIds {
    run: [u8; 32],
}

impl RequestIds {
    /// The ids of the run with this name. Two runs with one name make the same ids.
    #[must_use]
    pub fn new(run: &[u8]) -> Self {
        Self {
            run: Sha256::digest(run).into(),
        }
    }

    /// The id of the request that does `what` at `at`: a UUID of version 7, so that ids sort as the
    /// requests do and databases find their neighbours together.
    #[must_use]
    pub fn id(&self, what: &str, at: Timestamp) -> String {
        let hash = Sha256::new()
            .chain_update(self.run)
            .chain_update(what)
            .finalize();
        let mut tail = [0; 10];
        for (byte, hashed) in tail.iter_mut().zip(hash) {
            *byte = hashed;
        }
        let millis = u64::try_from(at.micros() / 1_000).unwrap_or(0);
        let id: Uuid = uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid();
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_follows_from_the_run_the_request_and_its_time() {
        let ids = RequestIds::new(b"a run");
        let at = Timestamp::from_micros(1_483_271_606_000_000);
        let id = ids.id("row 1", at);
        assert_eq!(id, RequestIds::new(b"a run").id("row 1", at));
        assert_ne!(id, ids.id("row 2", at));
        assert_ne!(id, RequestIds::new(b"another").id("row 1", at));
        assert!(id < ids.id("row 1", at.saturating_add_micros(1_000)));
        assert_eq!(Uuid::parse_str(&id).map(|id| id.get_version_num()), Ok(7));
    }
}
