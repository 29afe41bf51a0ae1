//! Partners, agreements and the sandbox's clock.

use std::collections::BTreeSet;

use coalition_ledger::Timestamp;
use coalition_ledger::agreement::{LegParty, Terms};
use coalition_ledger::ids::{AgreementId, PartnerId};
use coalition_ledger::rulebook::{PartnerStatus, Rulebook};
use coalition_ledger::snapshot::Subject;
use coalition_ledger::time::LAST;
use uuid::Uuid;

use super::{AsyncWork, Done, Objection, OperationError, OperationRequest, Operations};
use super::{earlier, now_in, remember, rulebook_in};
use crate::model::{AgreementRow, AgreementState, PartnerRow, Side};
use crate::traits::{Frame, Unit};

/// A partner to register.
#[derive(Clone, Debug)]
pub struct CreatePartner {
    /// The request.
    pub request: OperationRequest,
    /// The short handle.
    pub code: String,
    /// What people call it.
    pub display_name: String,
    /// What kind of shop it is, as the public interface numbers it.
    pub kind: i16,
}

/// An agreement version to propose.
#[derive(Clone, Debug)]
pub struct ProposeAgreement {
    /// The request.
    pub request: OperationRequest,
    /// Whose terms.
    pub partner: PartnerId,
    /// In an agreement of a pair, the redeemer.
    pub counterparty: Option<PartnerId>,
    /// From when it shall be in force; `None`: from its acceptance.
    pub effective_at: Option<Timestamp>,
    /// What is proposed.
    pub terms: Terms,
    /// Which side proposes.
    pub side: Side,
    /// Who proposes: the subject of the token.
    pub proposer: String,
}

/// An agreement version to accept.
#[derive(Clone, Debug)]
pub struct AcceptAgreement {
    /// The request.
    pub request: OperationRequest,
    /// Which version.
    pub agreement: AgreementId,
    /// The state that the caller looked at.
    pub etag: String,
    /// The partner that accepts; `None`: the operator.
    pub partner: Option<PartnerId>,
    /// Who accepts: the subject of the token.
    pub accepter: String,
}

struct SetClock {
    request: OperationRequest,
    to: ClockMove,
}

#[derive(Clone, Copy)]
enum ClockMove {
    To(Timestamp),
    By(i64),
}

impl Operations {
    /// Registers a partner.
    pub async fn create_partner(
        &self,
        partner: CreatePartner,
    ) -> Result<Done<PartnerRow>, OperationError> {
        self.run(partner).await
    }

    /// Proposes an agreement version.
    pub async fn propose_agreement(
        &self,
        proposal: ProposeAgreement,
    ) -> Result<Done<AgreementRow>, OperationError> {
        self.run(proposal).await
    }

    /// Accepts an agreement version for one side. Once no side is awaited it is in force, from then
    /// or from when it was proposed for.
    pub async fn accept_agreement(
        &self,
        acceptance: AcceptAgreement,
    ) -> Result<Done<AgreementRow>, OperationError> {
        self.run(acceptance).await
    }

    /// Sets a sandbox's clock; it stands there until it is moved again, and never goes back.
    pub async fn set_clock(
        &self,
        request: OperationRequest,
        to: Timestamp,
    ) -> Result<Done<Timestamp>, OperationError> {
        let to = ClockMove::To(to);
        self.run(SetClock { request, to }).await
    }

    /// Advances a sandbox's clock by `micros`, and leaves it standing there.
    pub async fn advance_clock(
        &self,
        request: OperationRequest,
        micros: i64,
    ) -> Result<Done<Timestamp>, OperationError> {
        let to = ClockMove::By(micros);
        self.run(SetClock { request, to }).await
    }
}

#[async_trait::async_trait]
impl AsyncWork<Done<PartnerRow>> for CreatePartner {
    async fn run(
        &self,
        operations: &Operations,
        unit: &mut dyn Unit,
        frame: &Frame,
    ) -> Result<Done<PartnerRow>, OperationError> {
        if let Some(id) = earlier(unit, &self.request, Subject::Partner).await? {
            let id = PartnerId::from_uuid(id);
            let found = unit
                .partner(id)
                .await?
                .ok_or(Objection::UnknownPartner(id))?;
            return Ok(Done {
                result: found,
                replayed: true,
            });
        }
        if unit.partner_by_code(&self.code).await?.is_some() {
            return Err(Objection::PartnerCodeTaken.into());
        }
        let row = PartnerRow {
            id: PartnerId::from_uuid(operations.mint().await),
            code: self.code.clone(),
            display_name: self.display_name.clone(),
            kind: self.kind,
            status: PartnerStatus::Active,
            created_at: now_in(frame, operations.clock.as_ref()),
        };
        unit.insert_partner(&row).await?;
        remember(unit, &self.request, Subject::Partner, row.id.uuid()).await?;
        Ok(Done {
            result: row,
            replayed: false,
        })
    }
}

#[async_trait::async_trait]
impl AsyncWork<Done<AgreementRow>> for ProposeAgreement {
    async fn run(
        &self,
        operations: &Operations,
        unit: &mut dyn Unit,
        frame: &Frame,
    ) -> Result<Done<AgreementRow>, OperationError> {
        if let Some(id) = earlier(unit, &self.request, Subject::Agreement).await? {
            let mut found = agreement(unit, AgreementId::from_uuid(id)).await?;
            // As it was then: the first answer, for ever.
            found.state = AgreementState::Proposed;
            (found.accepter, found.accepted_at) = (None, None);
            (found.counterparty_accepter, found.counterparty_accepted_at) = (None, None);
            found.effective_at = self.effective_at;
            return Ok(Done {
                result: found,
                replayed: true,
            });
        }
        self.terms.validate().map_err(Objection::from)?;
        if self.counterparty.is_some() {
            self.terms.validate_pair().map_err(Objection::from)?;
        }
        let rulebook = rulebook_in(unit).await?;
        self.check_parties(&rulebook)?;
        let now = now_in(frame, operations.clock.as_ref());
        if self.effective_at.is_some_and(|at| at < now) {
            return Err(Objection::EffectiveInThePast.into());
        }
        let versions = unit
            .agreement_versions(self.partner, self.counterparty)
            .await?;
        let row = AgreementRow {
            id: AgreementId::from_uuid(operations.mint().await),
            partner: self.partner,
            counterparty: self.counterparty,
            version: versions + 1,
            state: AgreementState::Proposed,
            proposed_by: self.side,
            proposer: self.proposer.clone(),
            proposed_at: now,
            accepter: None,
            accepted_at: None,
            effective_at: self.effective_at,
            counterparty_accepter: None,
            counterparty_accepted_at: None,
            terms: self.terms.clone(),
        };
        unit.insert_agreement(&row).await?;
        remember(unit, &self.request, Subject::Agreement, row.id.uuid()).await?;
        Ok(Done {
            result: row,
            replayed: false,
        })
    }
}

impl ProposeAgreement {
    /// Everyone and every currency that the terms name must be in the network.
    fn check_parties(&self, rulebook: &Rulebook) -> Result<(), Objection> {
        let mut named: BTreeSet<PartnerId> = BTreeSet::from([self.partner]);
        named.extend(self.counterparty);
        named.extend(
            self.terms
                .funders
                .iter()
                .filter_map(|funder| funder.party.partner()),
        );
        for leg in &self.terms.legs {
            for party in [leg.from, leg.to] {
                if let LegParty::Named(partner) = party {
                    named.insert(partner);
                }
            }
        }
        if let Some(stranger) = named.into_iter().find(|id| rulebook.partner(*id).is_none()) {
            return Err(Objection::UnknownPartner(stranger));
        }
        if rulebook.face_value(self.terms.currency).is_none() {
            let code = self.terms.currency.code();
            return Err(Objection::NotInNetwork {
                field: "terms.currency_code",
                what: format!("a face value in {code}"),
            });
        }
        if self.counterparty == Some(self.partner) {
            return Err(Objection::NotInNetwork {
                field: "counterparty_id",
                what: "a pair of one partner with itself".to_owned(),
            });
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl AsyncWork<Done<AgreementRow>> for AcceptAgreement {
    async fn run(
        &self,
        operations: &Operations,
        unit: &mut dyn Unit,
        frame: &Frame,
    ) -> Result<Done<AgreementRow>, OperationError> {
        if let Some(id) = earlier(unit, &self.request, Subject::Acceptance).await? {
            let found = agreement(unit, AgreementId::from_uuid(id)).await?;
            return Ok(Done {
                result: found,
                replayed: true,
            });
        }
        let mut row = agreement(unit, self.agreement).await?;
        let side = self.side_in(&row)?;
        if row.state != AgreementState::Proposed {
            return Err(Objection::AgreementNotProposed.into());
        }
        if !row.awaiting().contains(&side) || row.names(&self.accepter) {
            return Err(Objection::SelfApproval.into());
        }
        if row.etag() != self.etag {
            return Err(Objection::StaleEtag.into());
        }
        let now = now_in(frame, operations.clock.as_ref());
        let acceptance = (Some(self.accepter.clone()), Some(now));
        match side {
            Side::Operator | Side::Partner => (row.accepter, row.accepted_at) = acceptance,
            Side::Counterparty => {
                (row.counterparty_accepter, row.counterparty_accepted_at) = acceptance;
            }
        }
        if row.awaiting().is_empty() {
            row.state = AgreementState::Accepted;
            row.effective_at = Some(row.effective_at.map_or(now, |at| at.max(now)));
        }
        unit.accept_agreement(&row).await?;
        remember(unit, &self.request, Subject::Acceptance, row.id.uuid()).await?;
        Ok(Done {
            result: row,
            replayed: false,
        })
    }
}

impl AcceptAgreement {
    /// The side that the accepter speaks for; to a stranger there is no such agreement.
    fn side_in(&self, row: &AgreementRow) -> Result<Side, Objection> {
        match self.partner {
            None => Ok(Side::Operator),
            Some(partner) if partner == row.partner => Ok(Side::Partner),
            Some(partner) if Some(partner) == row.counterparty => Ok(Side::Counterparty),
            Some(_) => Err(Objection::UnknownAgreement(self.agreement)),
        }
    }
}

async fn agreement(unit: &mut dyn Unit, id: AgreementId) -> Result<AgreementRow, OperationError> {
    Ok(unit
        .agreement(id)
        .await?
        .ok_or(Objection::UnknownAgreement(id))?)
}

#[async_trait::async_trait]
impl AsyncWork<Done<Timestamp>> for SetClock {
    async fn run(
        &self,
        operations: &Operations,
        unit: &mut dyn Unit,
        frame: &Frame,
    ) -> Result<Done<Timestamp>, OperationError> {
        let network = operations.store.reader().network().await?;
        if network.terms.mode != crate::model::Mode::Sandbox {
            return Err(Objection::NotSandbox.into());
        }
        if let Some(id) = earlier(unit, &self.request, Subject::Clock).await? {
            return Ok(Done {
                result: instant_of(id),
                replayed: true,
            });
        }
        let now = now_in(frame, operations.clock.as_ref());
        let to = match self.to {
            ClockMove::To(to) => to,
            ClockMove::By(micros) => now.saturating_add_micros(micros),
        };
        if to > LAST {
            return Err(Objection::OutOfRange.into());
        }
        // A clock that was never set shows the system's time: history may be laid out behind it,
        // as long as nothing is posted yet.
        let untouched = frame.clock.is_none() && unit.last_transaction().await?.is_none();
        if to < now && !untouched {
            return Err(Objection::ClockMovesBack { now }.into());
        }
        unit.set_clock(to).await?;
        remember(unit, &self.request, Subject::Clock, id_of(to)).await?;
        Ok(Done {
            result: to,
            replayed: false,
        })
    }
}

/// An instant where a request's record holds an id.
fn id_of(instant: Timestamp) -> Uuid {
    Uuid::from_u128(u128::from(instant.micros().cast_unsigned()))
}

fn instant_of(id: Uuid) -> Timestamp {
    let (_, micros) = id.as_u64_pair();
    Timestamp::from_micros(micros.cast_signed())
}
