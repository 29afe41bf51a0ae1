//! Furnishing a network: partners, the agreements they accept, and members.

use std::sync::Arc;

use anyhow::Context as _;
use coalition_ledger::Timestamp;
use coalition_ledger::ids::PartnerId;
use coalition_proto::common::{Identifier, IdentifierType};
use coalition_proto::member::EnrollRequest;
use coalition_proto::partner::{
    AcceptAgreementRequest, Agreement, AgreementSide, CreatePartnerRequest, PartnerKind,
    ProposeAgreementRequest, Terms,
};
use coalition_proto::sandbox::SetClockRequest;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{Client, RequestIds, Who};

/// A partner to take in.
#[derive(Clone, Debug)]
pub struct NewPartner {
    /// Its short handle.
    pub code: String,
    /// Its name as people read it.
    pub display_name: String,
    /// What kind of business it is.
    pub kind: PartnerKind,
}

/// Takes partners, agreements and members into a network, as its operator and the partners do.
#[derive(Clone)]
pub struct Registrar {
    client: Client,
    ids: Arc<RequestIds>,
    /// Stamped into request ids.
    at: Timestamp,
}

impl Registrar {
    /// One who names requests by `ids`, stamped with `at`.
    #[must_use]
    pub fn new(client: Client, ids: Arc<RequestIds>, at: Timestamp) -> Self {
        Self { client, ids, at }
    }

    /// Sets the clock of a sandbox, and leaves it standing there.
    ///
    /// # Errors
    ///
    /// The network refused.
    pub async fn set_clock(&self, to: Timestamp) -> anyhow::Result<()> {
        let what = format!("clock {}", to.micros());
        let set = SetClockRequest {
            request_id: self.ids.id(&what, to),
            time: Some(wire_time(to)),
        };
        self.client.caller(Who::MAKER)?.call(set).await?;
        Ok(())
    }

    /// Takes in a partner.
    ///
    /// # Errors
    ///
    /// The network refused, for one because another partner has the code.
    pub async fn create_partner(&self, partner: &NewPartner) -> anyhow::Result<PartnerId> {
        let create = CreatePartnerRequest {
            request_id: self.ids.id(&format!("partner {}", partner.code), self.at),
            code: partner.code.clone(),
            display_name: partner.display_name.clone(),
            kind: partner.kind.into(),
        };
        let created = self
            .client
            .caller(Who::MAKER)?
            .call(create)
            .await
            .with_context(|| format!("taking in partner {}", partner.code))?;
        let id = created.partner.unwrap_or_default().partner_id;
        Ok(id.parse()?)
    }

    /// Has the operator propose terms to a partner, and the partner accept them.
    ///
    /// # Errors
    ///
    /// The network refused.
    pub async fn agree(&self, partner: PartnerId, terms: Terms) -> anyhow::Result<Agreement> {
        self.settle_terms(partner, None, terms).await
    }

    /// Has the operator propose terms to a pair of partners, and both accept them.
    ///
    /// # Errors
    ///
    /// The network refused.
    pub async fn agree_as_pair(
        &self,
        issuer: PartnerId,
        redeemer: PartnerId,
        terms: Terms,
    ) -> anyhow::Result<Agreement> {
        self.settle_terms(issuer, Some(redeemer), terms).await
    }

    async fn settle_terms(
        &self,
        partner: PartnerId,
        counterparty: Option<PartnerId>,
        terms: Terms,
    ) -> anyhow::Result<Agreement> {
        let other = counterparty.map(|id| id.to_string()).unwrap_or_default();
        let pair = format!("{partner} {other}");
        let propose = ProposeAgreementRequest {
            request_id: self.ids.id(&format!("proposal {pair}"), self.at),
            partner_id: partner.to_string(),
            counterparty_id: other.clone(),
            effective_at: None,
            terms: Some(terms),
        };
        let proposed = self
            .client
            .caller(Who::MAKER)?
            .call(propose)
            .await
            .with_context(|| format!("proposing terms to {pair}"))?;
        let mut agreement = proposed.agreement.unwrap_or_default();
        while let Some(side) = agreement.awaiting.first().copied() {
            let awaited = if side == i32::from(AgreementSide::Counterparty) {
                counterparty.unwrap_or(partner)
            } else {
                partner
            };
            let accept = AcceptAgreementRequest {
                request_id: self
                    .ids
                    .id(&format!("acceptance {pair} {awaited}"), self.at),
                agreement_id: agreement.agreement_id,
                etag: agreement.etag,
            };
            let accepted = self
                .client
                .caller(Who::PartnerAdmin(awaited))?
                .call(accept)
                .await
                .with_context(|| format!("accepting terms as {awaited}"))?;
            agreement = accepted.agreement.unwrap_or_default();
        }
        Ok(agreement)
    }

    /// Takes in members, `in_flight` at a time, each known by the identifier given. The ids come in
    /// the order of the identifiers; `done` is called for each.
    ///
    /// # Errors
    ///
    /// The network refused one of them.
    pub async fn enroll(
        &self,
        kind: IdentifierType,
        identifiers: &[String],
        in_flight: usize,
        done: impl Fn() + Sync,
    ) -> anyhow::Result<Vec<String>> {
        let caller = self.client.caller(Who::MAKER)?;
        let enrolments = identifiers.iter().map(|value| EnrollRequest {
            request_id: self.ids.id(&format!("member {value}"), self.at),
            identifiers: vec![Identifier {
                r#type: kind.into(),
                value: value.clone(),
            }],
        });
        stream::iter(enrolments)
            .map(|enroll| async {
                let enrolled = caller.call(enroll).await?;
                done();
                anyhow::Ok(enrolled.member_id)
            })
            .buffered(in_flight)
            .try_collect()
            .await
            .context("taking in members")
    }
}

/// An instant as messages carry it.
#[must_use]
pub fn wire_time(at: Timestamp) -> prost_types::Timestamp {
    const MICROS: i64 = coalition_ledger::time::MICROS_PER_SECOND;
    let micros = at.micros().rem_euclid(MICROS);
    prost_types::Timestamp {
        seconds: at.micros().div_euclid(MICROS),
        // Below a thousand million, which fits.
        nanos: i32::try_from(micros.saturating_mul(1_000)).unwrap_or(0),
    }
}
