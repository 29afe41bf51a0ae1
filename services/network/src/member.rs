//! Members: enrolment, look-up, balance, activity.

use coalition_ledger::command::{Action, Enroll, MemberKey, NewIdentifier};
use coalition_ledger::decision::Decision;
use coalition_ledger::ids::{MemberId, PartnerId, Party, TransactionId};
use coalition_ledger::member::{MemberBook, MemberStatus, Totals, Upcoming};
use coalition_ledger::transaction::Transaction;
use coalition_ledger::view;
use coalition_proto::member as pb;
use coalition_proto::member::member_service_server::MemberService;
use coalition_rpc::Problem;
use coalition_rpc::convert::page::READS_PER_PAGE;
use coalition_rpc::convert::{IdentifierKey, Named, Page, asked, balance, timestamp, transaction};
use coalition_rpc::page_token::PageTokens;
use coalition_rpc::request::{id, identity, valid, visible_partner};
use coalition_store::Books;
use coalition_store::model::MemberView;
use tonic::{Request, Response, Status};

/// Most expiries in a balance.
const UPCOMING_EXPIRIES: usize = 100;

/// The service of members on the books.
#[derive(Clone, Debug)]
pub struct MemberApi {
    books: Books,
    identifiers: IdentifierKey,
    tokens: PageTokens,
}

impl MemberApi {
    /// The service on these books, which finds members by identifiers hashed with `identifiers`, and
    /// whose page tokens are signed by `tokens`.
    #[must_use]
    pub fn new(books: Books, identifiers: IdentifierKey, tokens: PageTokens) -> Self {
        Self {
            books,
            identifiers,
            tokens,
        }
    }

    /// A member as it stands now: what is due by time counts, though it is not posted yet.
    async fn member_now(&self, member: MemberId) -> Result<MemberNow, Problem> {
        let present = self.books.present().await.map_err(Problem::because)?;
        let found = self.books.reader().member(member).await;
        let found = found.map_err(Problem::because)?;
        let MemberView { book, identifiers } = found.ok_or_else(Problem::no_such_member)?;
        Ok(MemberNow {
            book: view::as_of(book, present.now)?,
            identifiers,
        })
    }

    /// Transactions of a member before `before`, declines left out, one more than the page takes if
    /// there are so many; and where to go on if the page came out short.
    async fn activity(
        &self,
        member: MemberId,
        partner: Option<PartnerId>,
        page: &Page,
    ) -> Result<(Vec<Transaction>, Option<TransactionId>), Problem> {
        let mut before = page.id()?.map(TransactionId::from_uuid);
        let mut found: Vec<Transaction> = Vec::new();
        for _ in 0..READS_PER_PAGE {
            let reader = self.books.reader();
            let read = reader.activity(member, partner, before, page.limit()).await;
            let read = read.map_err(Problem::because)?;
            let is_last = i64::try_from(read.len()).is_ok_and(|rows| rows < page.limit());
            before = read.last().map(|last| last.id).or(before);
            found.extend(read.into_iter().filter(|t| t.declined.is_none()));
            if is_last || found.len() > page.rows() {
                return Ok((found, None));
            }
        }
        Ok((found, before))
    }
}

/// A member as it stands now.
struct MemberNow {
    book: MemberBook,
    identifiers: Vec<NewIdentifier>,
}

#[tonic::async_trait]
impl MemberService for MemberApi {
    async fn enroll(
        &self,
        request: Request<pb::EnrollRequest>,
    ) -> Result<Response<pb::EnrollResponse>, Status> {
        let caller = identity(&request)?;
        let message = request.get_ref();
        valid(message)?;
        let asked = asked(&request, caller, &message.request_id)?;
        let identifiers = message.identifiers.iter().enumerate();
        let identifiers = identifiers.map(|(place, identifier)| {
            let field = format!("identifiers[{place}]");
            self.identifiers.new_identifier(&field, identifier)
        });
        let action = Action::Enroll(Enroll {
            member: self.books.new_member(),
            identifiers: identifiers.collect::<Result<_, _>>()?,
        });
        let decision = self.books.post(asked, action).await;
        match decision.map_err(Problem::because)? {
            Decision::Enrolled { member, replayed } => Ok(Response::new(pb::EnrollResponse {
                member_id: member.to_string(),
                replayed,
            })),
            Decision::Refused(refusal) => Err(Problem::from(refusal).into()),
            Decision::Recorded { .. } | Decision::Nothing => {
                Err(Problem::internal("an enrolment was answered with something else").into())
            }
        }
    }

    async fn lookup(
        &self,
        request: Request<pb::LookupRequest>,
    ) -> Result<Response<pb::LookupResponse>, Status> {
        identity(&request)?;
        let message = request.get_ref();
        valid(message)?;
        let identifier = message.identifier.as_ref();
        let identifier = identifier.ok_or_else(|| Problem::invalid("identifier", "is required"))?;
        let key: MemberKey = self.identifiers.member(Named::Identifier(identifier))?;
        let member = self.books.member(&key).await.map_err(Problem::because)?;
        let member = member.ok_or_else(Problem::no_such_member)?;
        let now = self.member_now(member).await?;
        Ok(Response::new(pb::LookupResponse {
            member_id: member.to_string(),
            identifiers: now.identifiers.iter().map(masked).collect(),
            status: status(now.book.status).into(),
            balance: Some(balance(&now.book.balance())?),
        }))
    }

    async fn get_balance(
        &self,
        request: Request<pb::GetBalanceRequest>,
    ) -> Result<Response<pb::GetBalanceResponse>, Status> {
        identity(&request)?;
        let message = request.get_ref();
        valid(message)?;
        let now = self
            .member_now(id("member_id", &message.member_id)?)
            .await?;
        let issuers = view::by_issuer(&now.book).map_err(Problem::from)?;
        let upcoming = view::upcoming_expiries(&now.book, UPCOMING_EXPIRIES);
        let upcoming = upcoming.map_err(Problem::from)?;
        Ok(Response::new(pb::GetBalanceResponse {
            balance: Some(balance(&now.book.balance())?),
            issuers: issuers.into_iter().map(issuer_balance).collect(),
            upcoming_expiries: upcoming.into_iter().map(upcoming_expiry).collect(),
        }))
    }

    async fn list_activity(
        &self,
        request: Request<pb::ListActivityRequest>,
    ) -> Result<Response<pb::ListActivityResponse>, Status> {
        let caller = identity(&request)?;
        let message = request.get_ref();
        let partner = visible_partner(caller, &message.partner_id)?;
        valid(message)?;
        let member = id("member_id", &message.member_id)?;
        let filter = pb::ListActivityRequest {
            page_size: 0,
            page_token: String::new(),
            ..message.clone()
        };
        let wished = (message.page_size, message.page_token.as_str());
        let page = Page::of(&self.tokens, &request, caller, wished, &filter)?;
        let (mut rows, short) = self.activity(member, partner, &page).await?;
        if rows.is_empty() && page.cursor().is_none() {
            let known = self.books.reader().member(member).await;
            known
                .map_err(Problem::because)?
                .ok_or_else(Problem::no_such_member)?;
        }
        let next_page_token = match short {
            Some(last) => page.token(last.uuid().as_bytes())?,
            None => page.cut(&mut rows, |row| row.id.uuid().into_bytes())?,
        };
        // Read after the rows, so that it has every version they name.
        let present = self.books.present().await.map_err(Problem::because)?;
        let transactions = rows.iter().map(|row| transaction(row, &present.rulebook));
        Ok(Response::new(pb::ListActivityResponse {
            transactions: transactions.collect::<Result<_, _>>()?,
            next_page_token,
        }))
    }
}

fn masked(identifier: &NewIdentifier) -> pb::MaskedIdentifier {
    pb::MaskedIdentifier {
        r#type: i32::from(identifier.kind),
        masked: identifier.masked.clone(),
    }
}

const fn status(status: MemberStatus) -> pb::MemberStatus {
    match status {
        MemberStatus::Active => pb::MemberStatus::Active,
        MemberStatus::Frozen => pb::MemberStatus::Frozen,
        MemberStatus::Closed => pb::MemberStatus::Closed,
    }
}

fn issuer_balance((issuer, held): (Party, Totals)) -> pb::IssuerBalance {
    pb::IssuerBalance {
        issuer: issuer.to_string(),
        available: held.available.get(),
        pending: held.pending.get(),
        held: held.held.get(),
        debt: held.debt.get(),
    }
}

fn upcoming_expiry(upcoming: Upcoming) -> pb::UpcomingExpiry {
    pb::UpcomingExpiry {
        expires_at: Some(timestamp(upcoming.at)),
        points: upcoming.points.get(),
    }
}
