//! A network of one test: a node with all roles, a database of its own, a port of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use coalition_ledger::Clock as _;
use coalition_ledger::ids::PartnerId;
use coalition_node::{Config, Roles, RunningNode};
use coalition_proto::member::EnrollRequest;
use coalition_proto::partner::{
    AcceptAgreementRequest, Agreement, AgreementSide, CreatePartnerRequest, PartnerKind,
    ProposeAgreementRequest, Terms,
};
use coalition_proto::policy::Role;
use coalition_proto::sandbox::SetClockRequest;
use coalition_proto::settlement::verify_response::Event;
use coalition_proto::settlement::{
    CutWindowRequest, CutWindowResponse, ListPositionsRequest, Position, VerifyFinding,
    VerifySummary,
};
use coalition_rpc::auth::dev::{DevKey, TokenRequest};
use coalition_store::SystemClock;
use coalition_store::testing::{Database, Engine};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{Instant, interval};
use tonic::transport::{Channel, Endpoint};

use crate::caller::{Caller, Refusal};
use crate::figures::time;
use crate::partner::Partner;
use crate::request_id;

/// What the clock of a new network shows: it stands there until a scenario moves it.
pub const START: &str = "2026-01-01T00:00:00Z";

/// How often somebody who may not be there yet is asked.
const KNOCK_INTERVAL: Duration = Duration::from_millis(20);

/// Rows asked for at once: the most there is.
const PAGE_ROWS: i32 = 1_000;

/// A running network and the operator's people.
pub struct Network {
    /// The engine of its database.
    pub engine: Engine,
    /// The operator's maker: proposes, cuts, computes, records.
    pub maker: Caller,
    /// The operator's viewer: reads everything.
    pub viewer: Caller,
    /// The operator's checker.
    pub checker: Caller,
    /// Helps members.
    pub support: Caller,
    endpoint: String,
    /// None: the processes of the network are the test's own affair.
    node: Option<RunningNode>,
    key: DevKey,
    channel: Channel,
    database: Database,
    folder: TempDir,
}

/// What a check of the books came to.
#[derive(Clone, Debug)]
pub struct Books {
    /// What is wrong, in the order found.
    pub findings: Vec<VerifyFinding>,
    /// What was looked at.
    pub summary: VerifySummary,
    /// How often progress was told.
    pub progress: usize,
}

impl Network {
    /// A new network whose clock stands at [`START`]; `None` where there is no PostgreSQL to be had
    /// and that is allowed.
    pub async fn start(engine: Engine) -> Option<Self> {
        let network = Self::at_no_time(engine).await?;
        network.set_clock(START).await;
        Some(network)
    }

    /// A new network whose clock was not touched: it shows the system's time.
    pub async fn at_no_time(engine: Engine) -> Option<Self> {
        let database = Database::new(engine).await?;
        let folder = TempDir::with_prefix("coalition-e2e-").expect("a temporary folder");
        Some(Self::open(database, folder).await)
    }

    async fn open(database: Database, folder: TempDir) -> Self {
        let config = config(folder.path(), &database.url);
        let node = RunningNode::start(config, Roles::All)
            .await
            .unwrap_or_else(|error| panic!("the network does not start: {error:#}"));
        let endpoint = node.endpoint();
        Self::of(endpoint, Some(node), database, folder)
    }

    /// A network whose processes run already; `folder` holds its keys.
    pub fn elsewhere(endpoint: &str, database: Database, folder: TempDir) -> Self {
        Self::of(endpoint.to_owned(), None, database, folder)
    }

    fn of(
        endpoint: String,
        node: Option<RunningNode>,
        database: Database,
        folder: TempDir,
    ) -> Self {
        let key = DevKey::open(folder.path(), false).expect("the network has made a key");
        let channel = connect(&endpoint);
        let operator = |role: Role| {
            let request = TokenRequest::new(role.as_str(), [role]);
            Caller::new(channel.clone(), Some(&mint(&key, &request)))
        };
        Self {
            engine: database.engine,
            maker: operator(Role::OperatorMaker),
            viewer: operator(Role::OperatorViewer),
            checker: operator(Role::OperatorChecker),
            support: operator(Role::SupportAgent),
            endpoint,
            node,
            key,
            channel: channel.clone(),
            database,
            folder,
        }
    }

    /// Stops the node and starts another on the same database.
    pub async fn restart(self) -> Self {
        if let Some(node) = self.node {
            node.shut_down().await;
        }
        Self::open(self.database, self.folder).await
    }

    /// Stops the node and removes what it kept.
    pub async fn stop(self) {
        if let Some(node) = self.node {
            node.shut_down().await;
        }
        self.database.remove().await;
    }

    /// Stops the node; what it kept stays.
    pub async fn close(self) -> (Database, TempDir) {
        if let Some(node) = self.node {
            node.shut_down().await;
        }
        (self.database, self.folder)
    }

    /// Another view of the same network, at another address.
    #[must_use]
    pub fn moved_to(self, endpoint: &str) -> Self {
        Self::of(endpoint.to_owned(), self.node, self.database, self.folder)
    }

    /// Where the gateway answers.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The database, as nodes are told of it.
    pub fn database_url(&self) -> &str {
        &self.database.url
    }

    /// Where the node keeps its keys.
    pub fn data_dir(&self) -> &Path {
        self.folder.path()
    }

    /// The callers of this network at another address of it.
    pub fn at(&self, endpoint: &str) -> Door<'_> {
        Door {
            network: self,
            channel: connect(endpoint),
        }
    }

    /// Somebody with a token.
    pub fn caller(&self, request: &TokenRequest) -> Caller {
        Caller::new(self.channel.clone(), Some(&mint(&self.key, request)))
    }

    /// Somebody without a token.
    pub fn stranger(&self) -> Caller {
        Caller::new(self.channel.clone(), None)
    }

    /// A caller like that one, over a connection of its own.
    pub fn over_its_own_connection(&self, request: &TokenRequest) -> Caller {
        Caller::new(connect(&self.endpoint), Some(&mint(&self.key, request)))
    }

    /// Has the clock stand at this time.
    pub async fn set_clock(&self, to: &str) {
        let request = SetClockRequest {
            request_id: request_id(),
            time: Some(time(to)),
        };
        self.maker.ask(request).await;
    }

    /// Takes in a partner that has no agreement yet.
    pub async fn newcomer(&self, code: &str) -> String {
        let request = CreatePartnerRequest {
            request_id: request_id(),
            code: code.to_owned(),
            display_name: format!("{code} & Sons"),
            kind: PartnerKind::Restaurant.into(),
        };
        self.maker
            .ask(request)
            .await
            .partner
            .expect("the answer holds the partner")
            .partner_id
    }

    /// Takes in a partner and agrees on terms with it.
    pub async fn partner(&self, code: &str, terms: Terms) -> Partner {
        let id = self.newcomer(code).await;
        self.trading(&id, code, terms).await
    }

    /// Agrees on terms with a partner that was taken in.
    pub async fn trading(&self, id: &str, code: &str, terms: Terms) -> Partner {
        let currency = terms.currency_code.clone();
        let agreement = self.agree(id, "", terms).await;
        Partner {
            id: id.to_owned(),
            code: code.to_owned(),
            currency,
            agreement: agreement.agreement_id,
            till: self.till(id),
            office: self.office(id),
        }
    }

    /// Has the operator propose terms, and every side that is awaited accept them. `counterparty`
    /// is empty but in an agreement of a pair.
    pub async fn agree(&self, partner: &str, counterparty: &str, terms: Terms) -> Agreement {
        let request = ProposeAgreementRequest {
            request_id: request_id(),
            partner_id: partner.to_owned(),
            counterparty_id: counterparty.to_owned(),
            effective_at: None,
            terms: Some(terms),
        };
        let proposed = self.maker.ask(request).await.agreement;
        let mut agreement = proposed.expect("the answer holds the agreement");
        while let Some(side) = agreement.awaiting.first().copied() {
            let of_counterparty = side == i32::from(AgreementSide::Counterparty);
            let side = if of_counterparty {
                counterparty
            } else {
                partner
            };
            let request = AcceptAgreementRequest {
                request_id: request_id(),
                agreement_id: agreement.agreement_id,
                etag: agreement.etag,
            };
            let accepted = self.office(side).ask(request).await.agreement;
            agreement = accepted.expect("the answer holds the agreement");
        }
        agreement
    }

    /// A till of this partner.
    pub fn till(&self, partner: &str) -> Caller {
        self.caller(&TokenRequest::till(
            partner_id(partner),
            format!("till of {partner}"),
        ))
    }

    /// The people of a partner who read its figures and agree to its terms.
    pub fn office(&self, partner: &str) -> Caller {
        let partner = partner_id(partner);
        self.caller(&TokenRequest::partner_admin(
            partner,
            format!("office of {partner}"),
        ))
    }

    /// Takes in a member that is known by its id alone.
    pub async fn member(&self) -> String {
        let request = EnrollRequest {
            request_id: request_id(),
            identifiers: Vec::new(),
        };
        self.maker.ask(request).await.member_id
    }

    /// Cuts the open window.
    pub async fn cut(&self) -> CutWindowResponse {
        let request = CutWindowRequest {
            request_id: request_id(),
            expected_window_id: String::new(),
        };
        self.maker.ask(request).await
    }

    /// All positions of a window; of the open one if `window` is empty. Their sums must be zero.
    pub async fn positions(&self, window: &str) -> Vec<Position> {
        let mut rows = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListPositionsRequest {
                window_id: window.to_owned(),
                party: String::new(),
                page_size: PAGE_ROWS,
                page_token,
            };
            let page = self.viewer.ask(request).await;
            rows.extend(page.positions);
            for sum in page.sums {
                assert_eq!(
                    sum.sum_micros, 0,
                    "{} in window {window:?}",
                    sum.currency_code
                );
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return rows;
            }
        }
    }

    /// What each party is owed (positive) or owes in a window, in micro-units; parties without
    /// money in it are left out.
    pub async fn nets(&self, window: &str) -> BTreeMap<String, i64> {
        let rows = self.positions(window).await.into_iter();
        let rows = rows.filter(|row| !row.currency_code.is_empty());
        rows.map(|row| (row.party, row.net_micros)).collect()
    }

    /// Has the network check its books.
    pub async fn verify(&self) -> Books {
        let books = self.try_verify().await;
        books.unwrap_or_else(|refusal| panic!("{refusal}"))
    }

    /// Has the network check its books, if it is there to do so.
    ///
    /// # Errors
    ///
    /// What it answered instead, at the beginning or half way.
    pub async fn try_verify(&self) -> Result<Books, Refusal> {
        let mut news = self.viewer.verify().await?;
        let (mut findings, mut progress) = (Vec::new(), 0);
        let mut summary = None;
        let broken = |status| Refusal::of("SettlementService/Verify", &status);
        while let Some(said) = news.message().await.map_err(broken)? {
            assert!(summary.is_none(), "the summary is the last: {said:?}");
            match said.event.expect("there is something to say") {
                Event::Progress(_) => progress += 1,
                Event::Finding(finding) => findings.push(finding),
                Event::Summary(told) => summary = Some(told),
            }
        }
        let summary = summary.expect("a summary comes at the end");
        Ok(Books {
            findings,
            summary,
            progress,
        })
    }

    /// Checks the books as soon as somebody is there to do it, which must be within `longest`.
    pub async fn assert_books_balance_within(&self, longest: Duration) -> Books {
        let begun = Instant::now();
        let mut knocks = interval(KNOCK_INTERVAL);
        let books = loop {
            knocks.tick().await;
            match self.try_verify().await {
                Ok(books) => break books,
                Err(refusal) => assert!(begun.elapsed() <= longest, "{refusal}"),
            }
        };
        assert!(books.findings.is_empty(), "{:#?}", books.findings);
        assert!(books.summary.balanced, "{:?}", books.summary);
        books
    }

    /// Checks the books, and that the positions of the open window sum up to zero.
    pub async fn assert_books_balance(&self) -> Books {
        let books = self.verify().await;
        assert!(
            books.findings.is_empty(),
            "{} findings: {:#?}",
            books.findings.len(),
            books.findings
        );
        assert!(books.summary.balanced, "{:?}", books.summary);
        self.positions("").await;
        books
    }

    /// Changes rows behind the network's back, as a hand in the database would. How many.
    pub async fn edit(&self, statement: &str) -> u64 {
        self.database.sql(statement).await
    }

    /// The names and numbers that a query answers, behind the network's back.
    pub async fn numbers(&self, query: &str) -> Vec<(String, i64)> {
        self.database.numbers(query).await
    }

    /// The single number that a query answers, behind the network's back.
    pub async fn number(&self, query: &str) -> i64 {
        self.database.number(query).await
    }
}

/// Another address of a network.
pub struct Door<'a> {
    network: &'a Network,
    channel: Channel,
}

impl Door<'_> {
    /// Somebody with a token, who calls here.
    pub fn caller(&self, request: &TokenRequest) -> Caller {
        Caller::new(
            self.channel.clone(),
            Some(&mint(&self.network.key, request)),
        )
    }

    /// A till of this partner, which calls here.
    pub fn till(&self, partner: &str) -> Caller {
        let request = TokenRequest::till(partner_id(partner), format!("till of {partner}"));
        self.caller(&request)
    }
}

/// How a node of a test is configured.
pub fn config(data_dir: &Path, database_url: &str) -> Config {
    let config = json!({
        "data_dir": data_dir,
        "database_url": database_url,
        "listen": "127.0.0.1:0",
        "network": { "face_values": { "EUR": "0.01", "USD": "0.01", "JPY": "1", "KWD": "0.005" } },
    });
    serde_json::from_value(config).expect("the configuration is one")
}

/// A partner's id, from its text.
pub fn partner_id(text: &str) -> PartnerId {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A token, valid from now on.
pub fn mint(key: &DevKey, request: &TokenRequest) -> String {
    key.mint(request, SystemClock.now())
        .expect("a token can be signed")
}

/// A connection to this address, made with the first call.
pub fn connect(endpoint: &str) -> Channel {
    Endpoint::from_shared(endpoint.to_owned())
        .expect("a node's address is one")
        .tcp_nodelay(true)
        .connect_lazy()
}
