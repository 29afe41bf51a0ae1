//! The handles of one process on the books: what a service needs to translate calls.
//!
//! [`Books`] is cheap to clone and holds nothing of its own but the rulebook that was read last,
//! which is as good as the database's as long as its edition is the same. Deliberately absent: any
//! cache of balances, and anything that knows a message.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use coalition_ledger::command::{Action, Command, Fingerprint, MemberKey, RequestKey};
use coalition_ledger::decision::Decision;
use coalition_ledger::ids::{AgreementId, IdMint, MemberId, TransactionId};
use coalition_ledger::rulebook::Rulebook;
use coalition_ledger::snapshot::Subject;
use coalition_ledger::transaction::Transaction;
use coalition_ledger::{Clock, Timestamp};

use crate::error::StoreError;
use crate::model::Mode;
use crate::operations::Operations;
use crate::poster::{PostError, Poster};
use crate::traits::{Reader, Store};

/// The books as one process holds them.
#[derive(Clone)]
pub struct Books(Arc<Handles>);

struct Handles {
    store: Arc<dyn Store>,
    poster: Poster,
    operations: Operations,
    clock: Arc<dyn Clock>,
    rulebook: RwLock<Arc<Rulebook>>,
    mint: Mutex<IdMint>,
}

/// How a transaction is named by who asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionKey {
    /// By its id.
    Id(TransactionId),
    /// By the request that asked for it.
    Request(RequestKey),
}

/// The network at the moment of asking.
#[derive(Clone, Debug)]
pub struct Present {
    /// The network's time: a sandbox's clock, or the system's.
    pub now: Timestamp,
    /// Sandbox or production.
    pub mode: Mode,
    /// The rulebook as of now.
    pub rulebook: Arc<Rulebook>,
}

impl Books {
    /// The books behind these handles. `seed` is random: it keeps the ids minted here apart from
    /// those of other mints.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        poster: Poster,
        operations: Operations,
        clock: Arc<dyn Clock>,
        seed: [u8; 6],
    ) -> Self {
        Self(Arc::new(Handles {
            store,
            poster,
            operations,
            clock,
            rulebook: RwLock::default(),
            mint: Mutex::new(IdMint::new(seed)),
        }))
    }

    /// The store itself.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    /// Asks questions.
    #[must_use]
    pub fn reader(&self) -> &dyn Reader {
        self.0.store.reader()
    }

    /// What operators do.
    #[must_use]
    pub fn operations(&self) -> &Operations {
        &self.0.operations
    }

    /// Has a request decided; the answer is durable.
    pub async fn post(
        &self,
        request: (RequestKey, Fingerprint),
        action: Action,
    ) -> Result<Decision, PostError> {
        let request = Some(request);
        self.0.poster.post(Command { request, action }).await
    }

    /// The network's time and rules.
    pub async fn present(&self) -> Result<Present, StoreError> {
        let network = self.reader().network().await?;
        let known = self.known();
        let rulebook = if known.version == network.rulebook_version {
            known
        } else {
            self.read_rulebook().await?
        };
        Ok(Present {
            now: network.clock.unwrap_or_else(|| self.0.clock.now()),
            mode: network.terms.mode,
            rulebook,
        })
    }

    /// A rulebook that has this version, if the network has it: agreed versions never change, so
    /// that any edition which has it will do. `None`: any edition at all.
    pub async fn rulebook_with(
        &self,
        version: Option<AgreementId>,
    ) -> Result<Arc<Rulebook>, StoreError> {
        let known = self.known();
        if version.is_none_or(|id| known.agreement(id).is_some()) {
            return Ok(known);
        }
        self.read_rulebook().await
    }

    /// A transaction, by its id or by the request that asked for it.
    pub async fn transaction(
        &self,
        key: TransactionKey,
    ) -> Result<Option<Transaction>, StoreError> {
        let id = match key {
            TransactionKey::Id(id) => Some(id),
            TransactionKey::Request(key) => {
                let record = self.reader().request(key).await?;
                let record = record.filter(|record| record.subject == Subject::Transaction);
                record.map(|record| TransactionId::from_uuid(record.subject_id))
            }
        };
        match id {
            Some(id) => self.reader().transaction(id).await,
            None => Ok(None),
        }
    }

    /// The member whom a key leads to. An id is taken as it is: whether there is such a member is
    /// for the books to say.
    pub async fn member(&self, key: &MemberKey) -> Result<Option<MemberId>, StoreError> {
        match key {
            MemberKey::Id(id) => Ok(Some(*id)),
            MemberKey::Identifier(hash) => self.reader().member_by_identifier(hash).await,
        }
    }

    /// An id for a member who enrols.
    #[must_use]
    pub fn new_member(&self) -> MemberId {
        // A mint is whole after every step, also one that ended badly.
        let mut mint = self.0.mint.lock().unwrap_or_else(PoisonError::into_inner);
        MemberId::from_uuid(mint.mint(self.0.clock.now()))
    }

    fn known(&self) -> Arc<Rulebook> {
        let known = self
            .0
            .rulebook
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&known)
    }

    async fn read_rulebook(&self) -> Result<Arc<Rulebook>, StoreError> {
        let read = Arc::new(self.reader().rulebook().await?);
        let mut known = self
            .0
            .rulebook
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // Whoever read a later edition meanwhile is right.
        if read.version >= known.version {
            *known = Arc::clone(&read);
        }
        Ok(read)
    }
}

impl std::fmt::Debug for Books {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Books").finish_non_exhaustive()
    }
}
