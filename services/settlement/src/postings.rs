//! The postings behind a window's figures.

use coalition_ledger::ids::{Party, TransactionId};
use coalition_ledger::rulebook::Rulebook;
use coalition_ledger::transaction::Transaction;
use coalition_proto::common;
use coalition_proto::settlement as pb;
use coalition_rpc::convert::{self, Page};
use coalition_rpc::request::{id, identity, valid, visible_partner};
use coalition_rpc::status::Problem;
use coalition_store::model::{PostingFilter, PostingPage};
use tonic::Request;

use crate::SettlementApi;
use crate::sight::{own_party, touches};

impl SettlementApi {
    pub(crate) async fn postings(
        &self,
        request: &Request<pb::ListPostingsRequest>,
    ) -> Result<pb::ListPostingsResponse, Problem> {
        let caller = identity(request)?;
        let asked = request.get_ref();
        let partner = visible_partner(caller, &asked.partner_id)?;
        valid(asked)?;
        let member = match asked.member_id.as_str() {
            "" => None,
            named => Some(id("member_id", named)?),
        };
        let filter = pb::ListPostingsRequest {
            page_size: 0,
            page_token: String::new(),
            ..asked.clone()
        };
        let wished = (asked.page_size, asked.page_token.as_str());
        let page = Page::of(&self.page_tokens, request, caller, wished, &filter)?;
        let window = Some(self.window(&asked.window_id).await?.id);
        let after = page.id()?.map(TransactionId::from_uuid);
        let filter = PostingFilter {
            window,
            partner,
            member,
        };
        let found = self
            .books
            .reader()
            .postings(filter, after, page.limit())
            .await;
        let PostingPage { mut rows, next } = found.map_err(Problem::because)?;
        let next_page_token = match next {
            Some(last) => page.token(last.uuid().as_bytes())?,
            None => page.cut(&mut rows, |row| row.id.uuid().into_bytes())?,
        };
        // Read after the rows, so that it has every version they name.
        let rulebook = self
            .books
            .present()
            .await
            .map_err(Problem::because)?
            .rulebook;
        let own = own_party(caller);
        let postings = rows.iter().map(|row| posting(row, own, &rulebook));
        Ok(pb::ListPostingsResponse {
            postings: postings.collect::<Result<_, _>>()?,
            next_page_token,
        })
    }
}

/// A posting as `own` may see it; as the network sees it where there is none.
///
/// Of what happened at somebody else's tills a partner sees that it happened and what it did to its
/// own accounts: not the till's own words, nor the member's balance, nor other issuers' lots.
fn posting(
    transaction: &Transaction,
    own: Option<Party>,
    rulebook: &Rulebook,
) -> Result<pb::Posting, Problem> {
    let transfers = transaction.posting.transfers.iter();
    let visible = transfers.filter(|row| own.is_none_or(|own| touches(row, own)));
    let mut told = convert::transaction(transaction, rulebook)?;
    if let Some(own) = own.filter(|own| *own != transaction.partner) {
        let issuer = own.to_string();
        told.slices.retain(|slice| slice.issuer == issuer);
        told = common::Transaction {
            check_id: String::new(),
            location: String::new(),
            terminal: String::new(),
            balance: None,
            ..told
        };
    }
    Ok(pb::Posting {
        transaction: Some(told),
        transfers: visible.map(convert::transfer).collect(),
    })
}
