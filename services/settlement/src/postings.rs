//! The postings behind a window's figures.

use coalition_ledger::account::Transfer;
use coalition_ledger::ids::{Party, TransactionId};
use coalition_ledger::rulebook::Rulebook;
use coalition_ledger::transaction::Transaction;
use coalition_ledger::trial::AccountKind;
use coalition_proto::settlement as pb;
use coalition_rpc::convert;
use coalition_rpc::request::{id, visible_partner};
use coalition_rpc::status::Problem;
use coalition_store::model::PostingFilter;
use tonic::Request;
use uuid::Uuid;

use crate::SettlementApi;
use crate::pages::{Page, caller};

const LIST_POSTINGS: &str = "/coalition.settlement.v1.SettlementService/ListPostings";

impl SettlementApi {
    pub(crate) async fn postings(
        &self,
        request: &Request<pb::ListPostingsRequest>,
    ) -> Result<pb::ListPostingsResponse, Problem> {
        let caller = caller(request)?;
        let asked = request.get_ref();
        let partner = visible_partner(caller, &asked.partner_id)?;
        let member = match asked.member_id.as_str() {
            "" => None,
            named => Some(id("member_id", named)?),
        };
        let filter = format!(
            "{} {} {}",
            asked.window_id, asked.partner_id, asked.member_id
        );
        let (size, token) = (asked.page_size, &asked.page_token);
        let tokens = &self.page_tokens;
        let page = Page::asked(
            tokens,
            LIST_POSTINGS,
            caller,
            filter.as_bytes(),
            size,
            token,
        )?;
        let (window, _) = self.window_and_totals(&asked.window_id).await?;
        let window = Some(window.id);
        let after = page.after.as_deref().and_then(transaction_id);
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
        let mut rows = found.map_err(Problem::because)?;
        let next_page_token = page.cut(&mut rows, |row| row.id.uuid().as_bytes().to_vec())?;
        let rulebook = self
            .books
            .present()
            .await
            .map_err(Problem::because)?
            .rulebook;
        let own = caller.partner().map(Party::Partner);
        let postings = rows.iter().map(|row| posting(row, own, &rulebook));
        Ok(pb::ListPostingsResponse {
            postings: postings.collect::<Result<_, _>>()?,
            next_page_token,
        })
    }
}

fn transaction_id(cursor: &[u8]) -> Option<TransactionId> {
    Uuid::from_slice(cursor).ok().map(TransactionId::from_uuid)
}

fn posting(
    transaction: &Transaction,
    own: Option<Party>,
    rulebook: &Rulebook,
) -> Result<pb::Posting, Problem> {
    let visible = |transfer: &&Transfer| own.is_none_or(|own| touches(transfer, own));
    let transfers = transaction.posting.transfers.iter().filter(visible);
    Ok(pb::Posting {
        transaction: Some(convert::transaction(transaction, rulebook)?),
        transfers: transfers.map(convert::transfer).collect(),
    })
}

fn touches(transfer: &Transfer, party: Party) -> bool {
    [transfer.debit, transfer.credit]
        .into_iter()
        .any(|account| AccountKind::of(account).1 == Some(party))
}
