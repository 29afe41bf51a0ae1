//! Every statement of the store, once, in the SQL that both engines speak.
//!
//! A statement about a set of rows has `{rows}` where the set comes in: `select * from
//! unnest($1::lot_row[])` on PostgreSQL, where a type was made for its rows (`in "lot_row"`), else
//! `unnest($1::uuid[], …)`; `values (?, …), …` on SQLite. Columns of such a set are
//! called `k_…` (keys) or `v_…` (values), so that the columns of tables need no prefix. A statement
//! about single values numbers them `$1`, `$2`, … Types are listed in the order of the values.
//!
//! Statements of a unit look up by key, whatever the tables hold: no scans, no locks over sets, no
//! joins of tables that are not distributed by the same column. Tests hold them to it.

use std::sync::{Arc, OnceLock};

use crate::codec::Type::{self, Big, Boolean, Bytes, Integer, Small, Text, Uuid};

/// Most rows that one statement takes on SQLite, and the sizes of smaller sets, which are filled up
/// with rows of nulls: few enough that every text is prepared once and stays so.
pub(crate) const CHUNK_ROWS: [usize; 10] = [512, 256, 128, 64, 32, 16, 8, 4, 2, 1];

/// The check that stops a second withdrawal of the same funds: who runs into it was second.
pub(crate) const GUARD: &str = "positions_funds";

/// The constraints that keep running sums within 64 bits, where the database adds.
pub(crate) const RANGES: [&str; 2] = ["window_totals_range", "positions_range"];

/// A statement.
#[derive(Debug)]
pub(crate) struct Statement {
    sql: &'static str,
    types: &'static [Type],
    /// The type that PostgreSQL has for its rows, if any.
    row: Option<&'static str>,
    postgres: OnceLock<Arc<str>>,
    sqlite: [OnceLock<Arc<str>>; CHUNK_ROWS.len()],
}

impl Statement {
    const fn new(sql: &'static str, types: &'static [Type], row: Option<&'static str>) -> Self {
        Self {
            sql,
            types,
            row,
            postgres: OnceLock::new(),
            sqlite: [const { OnceLock::new() }; CHUNK_ROWS.len()],
        }
    }

    /// The types of a row, or of `$1`, `$2`, …; and then of `{last}`.
    pub(crate) const fn types(&self) -> &'static [Type] {
        self.types
    }

    /// The type that PostgreSQL has for its rows, if any: they go there as one array.
    pub(crate) const fn row(&self) -> Option<&'static str> {
        self.row
    }

    /// Whether it takes a set of rows.
    pub(crate) fn is_set(&self) -> bool {
        self.sql.contains("{rows}")
    }

    /// How it begins: enough to recognise it by.
    #[cfg(feature = "faults")]
    pub(crate) fn gist(&self) -> &'static str {
        const GIST_BYTES: usize = 60;
        self.sql.get(..GIST_BYTES).unwrap_or(self.sql)
    }

    /// Its text for PostgreSQL.
    pub(crate) fn postgres(&self) -> Arc<str> {
        Arc::clone(self.postgres.get_or_init(|| self.postgres_after(0).into()))
    }

    /// The types of what it is run with on PostgreSQL, in the order of their places: an array of rows, or
    /// an array per column, or single values.
    fn parameters(&self) -> Vec<String> {
        if let Some(row) = self.row {
            return vec![format!("{row}[]")];
        }
        let columns = if self.is_set() {
            self.types.len() - usize::from(self.has_last())
        } else {
            0
        };
        let types = self.types.iter().enumerate();
        let parameters = types.map(|(place, kind)| {
            let array = if place < columns { "[]" } else { "" };
            format!("{}{array}", kind.postgres())
        });
        parameters.collect()
    }

    /// Whether a single value comes after its rows.
    fn has_last(&self) -> bool {
        self.sql.contains("{last}")
    }

    /// Its text for PostgreSQL where so many values of other statements come first.
    fn postgres_after(&self, places: usize) -> String {
        let mut parameters = self.parameters();
        let last = places + parameters.len();
        parameters.truncate(parameters.len() - usize::from(self.has_last()));
        let sets = parameters.iter().zip(places + 1..);
        let sets = sets.map(|(kind, place)| format!("${place}::{kind}"));
        let sets = sets.collect::<Vec<_>>().join(", ");
        self.sql
            .replace("{rows}", &format!("select * from unnest({sets})"))
            .replace("{last}", &format!("${last}"))
    }

    /// The table that it writes to.
    pub(crate) fn table(&self) -> &'static str {
        let verbs = ["insert into ", "delete from ", "update "];
        let named = verbs.iter().find_map(|verb| self.sql.split_once(verb));
        let rest = named.map_or("", |(_, rest)| rest);
        rest.split(' ').next().unwrap_or_default()
    }

    /// It for SQLite, within a transaction that is given up where one fails: it leaves what it has written,
    /// and SQLite keeps no journal to take back the half of it (but for an upsert, which keeps one).
    fn or_fail(&self) -> String {
        let (verb, so) = if self.sql.contains("insert into ") {
            ("insert into ", "insert or fail into ")
        } else {
            ("update ", "update or fail ")
        };
        self.sql.replacen(verb, so, 1)
    }

    /// Its text for SQLite, for the size of set at `chunk` in [`CHUNK_ROWS`].
    ///
    /// The values of a set are not numbered: SQLite looks a number up in the list of all numbers.
    /// Rows that fill a set up are left out again: the first column of every set is part of a key.
    pub(crate) fn sqlite(&self, chunk: usize) -> Arc<str> {
        let render = || {
            let last = usize::from(self.has_last());
            let row = format!("({})", vec!["?"; self.types.len() - last].join(", "));
            let rows = CHUNK_ROWS.get(chunk).copied().unwrap_or(1);
            let values = format!("values {}", vec![row; rows].join(", "));
            let rows = if rows > 1 {
                format!("select * from ({values}) where column1 is not null")
            } else {
                values
            };
            self.or_fail()
                .replace("{rows}", &rows)
                .replace("{last}", "?")
                // To SQLite `$1` is a name, whose number is when it first comes.
                .replace('$', "?")
                .into()
        };
        self.sqlite
            .get(chunk)
            .map_or_else(render, |text| Arc::clone(text.get_or_init(render)))
    }
}

/// Statements that write sets, in one for PostgreSQL: it runs them in their order, and answers with
/// how many rows each wrote. None sees what another wrote.
pub(crate) fn together(statements: &[&Statement]) -> String {
    let mut parts = Vec::new();
    let counts = count_written(statements, 0, &mut parts);
    let counts: Vec<_> = counts.into_iter().map(|(written, _)| written).collect();
    format!("with {} select {}", parts.join(", "), counts.join(", "))
}

/// The types of what [`at_once`] begins with: the window's lock, and the frame in which the rest was decided.
pub(crate) const HOLD: [&str; 4] = ["bigint", "uuid", "bigint", "bigint"];

/// The same as all of a transaction: it holds the window first, refuses where that or the rulebook or the
/// clock is not what it is told, and where a statement writes another number of rows than it is given, and
/// answers with how long it waited. What it reads, it reads as of before the window was held; whatever has
/// changed meanwhile is for keys and versions to notice, as it is between any two batches.
pub(crate) fn at_once(statements: &[&Statement]) -> String {
    let hold = HOLD.iter().zip(1..);
    let hold = hold.map(|(kind, place)| format!("${place}::{kind}"));
    let hold = hold.collect::<Vec<_>>().join(", ");
    let mut parts = vec![format!(
        "held as materialized (select hold_window({hold}) as waited_us)"
    )];
    let counts = count_written(statements, HOLD.len(), &mut parts);
    let counts = counts.into_iter();
    let all = counts.map(|(written, given)| format!("{written} = {given}"));
    let all = all.collect::<Vec<_>>().join(" and ");
    format!(
        "with {} select case when {all} then waited_us else refuse_batch() end from held",
        parts.join(", ")
    )
}

/// Adds statements that write sets to the parts of one, where so many values come first: how many rows each
/// writes, and how many it is given.
fn count_written(
    statements: &[&Statement],
    mut places: usize,
    parts: &mut Vec<String>,
) -> Vec<(String, String)> {
    let mut counts = Vec::with_capacity(statements.len());
    for (n, statement) in statements.iter().enumerate() {
        let text = statement.postgres_after(places);
        parts.push(format!("w{n} as ({text} returning 1)"));
        let parameters = statement.parameters();
        let first = parameters.first().map_or("", String::as_str);
        counts.push((
            format!("(select count(*) from w{n})"),
            format!("cardinality(${}::{first})", places + 1),
        ));
        places += parameters.len();
    }
    counts
}

/// A statement that fetches, and questions to others, in one for PostgreSQL: each row begins with
/// whether each of the others would find anything, and whether the row is one that was fetched; there
/// is at least one row.
pub(crate) fn asking(statement: &Statement, others: &[&Statement]) -> String {
    let mut parts = vec![format!("found as ({})", statement.postgres())];
    let mut places = statement.parameters().len();
    let mut answers = Vec::new();
    for (n, other) in others.iter().enumerate() {
        debug_assert!(other.is_set(), "single values are not numbered anew");
        parts.push(format!("q{n} as ({})", other.postgres_after(places)));
        answers.push(format!("exists (select from q{n})"));
        places += other.parameters().len();
    }
    format!(
        "with {} select {}, found.* from (select) as always \
         left join (select true, found.* from found) as found on true",
        parts.join(", "),
        answers.join(", ")
    )
}

/// What no database can do.
#[cfg(feature = "faults")]
pub(crate) static BROKEN: Statement =
    Statement::new("select no_such_function_on_purpose()", &[], None);

macro_rules! statements {
    (@row) => { None };
    (@row $row:literal) => { Some($row) };
    ($($(#[$doc:meta])* $name:ident($($kind:ident),*) $(in $row:literal)? = $($sql:expr),+;)+) => {
        $($(#[$doc])* pub(crate) static $name: Statement =
            Statement::new(concat!($($sql),+), &[$($kind),*], statements!(@row $($row)?));)+

        /// All of them, by name.
        #[cfg(test)]
        pub(crate) static ALL: &[(&str, &Statement)] = &[$((stringify!($name), &$name)),+];
    };
}

macro_rules! request {
    () => {
        "id, scope, subject_id, member_id, subject, fingerprint"
    };
}
macro_rules! check {
    () => {
        "partner_id, kind, check_id, transaction_id, member_id"
    };
}
macro_rules! identifier {
    () => {
        "hash, member_id, kind, masked"
    };
}
macro_rules! member {
    () => {
        "id, last_transaction_id, version, pending, available, held, debt, \
             next_expiry_us, next_expiry_points, next_maturity_us, status"
    };
}
macro_rules! transaction {
    () => {
        "id, member_id, partner_id, window_id, agreement_id, original_id, previous_id, \
             posted_us, occurred_us, points, points_forgiven, points_expired, amount_minor, \
             balance_pending, balance_available, balance_held, balance_debt, \
             next_expiry_us, next_expiry_points, kind, declined, channel, offline, currency, \
             check_id, location, terminal, operator_ref, shift_ref, business_date, \
             posting, digest, open_points, open_amount_minor, reversed_by"
    };
}
macro_rules! lot {
    () => {
        "id, member_id, issuer_id, agreement_id, earned_us, pending_until_us, expires_us, \
             points, available, pending, held, expired"
    };
}
macro_rules! resting_lots {
    () => {
        concat!(
            "select ",
            lot!(),
            " from (select k_member from k join members on id = k_member ",
            "where pending > 0 or held > 0) as resting cross join lots ",
            "where member_id = k_member and (pending > 0 or held > 0)"
        )
    };
}
macro_rules! update_members {
    ($due:literal) => {
        concat!(
            "with v (v_id, v_version, v_last, v_pending, v_available, v_held, v_debt, v_expiry_us, ",
            "v_expiry_points, v_maturity_us, v_due_us, v_status) as ({rows}) ",
            "update members set version = version + 1, ",
            "last_transaction_id = coalesce(v_last, last_transaction_id), ",
            "pending = v_pending, available = v_available, held = v_held, debt = v_debt, ",
            "next_expiry_us = v_expiry_us, next_expiry_points = v_expiry_points, ",
            "next_maturity_us = v_maturity_us, ",
            $due,
            "status = v_status from v where id = v_id and version = v_version"
        )
    };
}
macro_rules! live {
    () => {
        "(available > 0 or (pending > 0 or held > 0))"
    };
}
macro_rules! window {
    () => {
        "id, number, state, opened_us, closed_us, last_transaction_id, totals_hash"
    };
}
macro_rules! total {
    () => {
        "measure, party, counterparty, unit"
    };
}
macro_rules! position {
    () => {
        "party, currency, debits, credits, funds, reserved"
    };
}
macro_rules! partner {
    () => {
        "id, code, display_name, kind, status, created_us"
    };
}
macro_rules! agreement {
    () => {
        "id, partner_id, counterparty_id, version, state, proposed_by, proposer, \
             proposed_us, accepter, accepted_us, effective_us, counterparty_accepter, \
             counterparty_accepted_us, terms"
    };
}

statements! {
    // Fetching for a batch.

    FRAME() =
        "select windows.id, rulebook_version, clock_us, first_transaction_id ",
        "from network join windows on state = 1";
    REQUESTS(Uuid, Uuid) in "request_key" =
        "with k (k_id, k_scope) as ({rows}) ",
        "select ", request!(), " from k join requests on id = k_id and scope = k_scope";
    CHECKS(Uuid, Small, Text) in "check_key" =
        "with k (k_partner, k_kind, k_check) as ({rows}) ",
        "select ", check!(), " from k join checks ",
        "on partner_id = k_partner and kind = k_kind and check_id = k_check";
    IDENTIFIERS(Bytes) =
        "with k (k_hash) as ({rows}) ",
        "select ", identifier!(), " from k join identifiers on hash = k_hash";
    TRANSACTIONS(Uuid) =
        "with k (k_id) as ({rows}) ",
        "select ", transaction!(), " from k join transactions on id = k_id";
    MEMBERS(Uuid) =
        "with k (k_id) as ({rows}) ",
        "select ", member!(), " from k join members on id = k_id";
    LOTS(Uuid, Uuid) =
        "with k (k_id, k_member) as ({rows}) ",
        "select ", lot!(), " from k join lots on id = k_id and member_id = k_member";
    /// The first `{last}` available lots of each member, then those with pending or held points,
    /// which are looked for where the member's row says that there are some. A lateral join:
    /// PostgreSQL would run a correlated `in` for every lot there is.
    POSTGRES_LIVE_LOTS(Uuid, Big) =
        "with k (k_member) as ({rows}) ",
        "select ", lot!(), " from k cross join lateral (",
        "select ", lot!(), " from lots where member_id = k_member and available > 0 ",
        "and pending is null and held is null order by expires_us, id limit {last}) as first ",
        "union all ",
        resting_lots!();
    /// The same: SQLite knows no lateral join, and runs the correlated `in` once per member. It would
    /// prepare the text anew whenever a value is bound to a bare limit; a sum has it leave that.
    SQLITE_LIVE_LOTS(Uuid, Big) =
        "with k (k_member) as ({rows}) ",
        "select ", lot!(), " from k cross join lots on member_id = k_member and id in (",
        "select first.id from lots as first where first.member_id = k_member ",
        "and first.available > 0 and first.pending is null and first.held is null ",
        "order by first.expires_us, first.id limit {last} + 0) ",
        "union all ",
        resting_lots!();
    DEBTS(Uuid) =
        "with k (k_member) as ({rows}) ",
        "select member_id, issuer_id, points from k join debts on member_id = k_member ",
        "where points > 0";
    POSITIONS(Uuid, Text) =
        "with k (k_party, k_currency) as ({rows}) ",
        "select ", position!(), " from k join positions ",
        "on party = k_party and currency = k_currency";
    DUE_MEMBERS(Big, Big) =
        "select id from members where due_us <= $1 order by due_us limit $2";

    // Writing a batch.

    INSERT_REQUESTS(Uuid, Uuid, Uuid, Uuid, Small, Bytes) in "request_row" =
        "insert into requests (", request!(), ") {rows}";
    INSERT_CHECKS(Uuid, Small, Text, Uuid, Uuid) in "check_row" =
        "insert into checks (", check!(), ") {rows}";
    DELETE_CHECKS(Uuid, Small, Text) in "check_key" =
        "with k (k_partner, k_kind, k_check) as ({rows}) delete from checks ",
        "where (partner_id, kind, check_id) in (select k_partner, k_kind, k_check from k)";
    INSERT_MEMBERS(Uuid, Big, Big, Big, Big, Big, Big, Big, Big, Big, Big, Small) =
        "insert into members (id, version, pending, available, held, debt, next_expiry_us, ",
        "next_expiry_points, next_maturity_us, due_us, enrolled_us, status) {rows}";
    INSERT_IDENTIFIERS(Bytes, Uuid, Small, Text) =
        "insert into identifiers (", identifier!(), ") {rows}";
    INSERT_TRANSACTIONS(
        Uuid, Uuid, Uuid, Uuid, Uuid, Uuid, Uuid,
        Big, Big, Big, Big, Big, Big,
        Big, Big, Big, Big,
        Big, Big, Small, Small, Small, Boolean, Text,
        Text, Text, Text, Text, Text, Text,
        Bytes, Bytes, Big, Big, Uuid
    ) in "transaction_row" =
        "insert into transactions (", transaction!(), ") {rows}";
    UPDATE_OPENS(Uuid, Uuid, Big, Big, Uuid) =
        "with v (v_id, v_member, v_points, v_amount, v_reversed_by) as ({rows}) ",
        "update transactions set open_points = v_points, open_amount_minor = v_amount, ",
        "reversed_by = v_reversed_by from v where id = v_id and member_id = v_member";
    INSERT_LOTS(Uuid, Uuid, Uuid, Uuid, Big, Big, Big, Big, Big, Big, Big, Big) in "lot_row" =
        "insert into lots (", lot!(), ") {rows}";
    UPDATE_LOTS(Uuid, Uuid, Big, Big, Big, Big, Big) in "lot_change" =
        "with v (v_id, v_member, v_points, v_available, v_pending, v_held, v_expired) as ({rows}) ",
        "update lots set points = v_points, available = v_available, pending = v_pending, ",
        "held = v_held, expired = v_expired from v where id = v_id and member_id = v_member";
    UPSERT_DEBTS(Uuid, Uuid, Big) =
        "insert into debts (member_id, issuer_id, points) {rows} ",
        "on conflict (member_id, issuer_id) do update set points = excluded.points";
    UPDATE_MEMBERS(Uuid, Big, Uuid, Big, Big, Big, Big, Big, Big, Big, Big, Small) in "member_change" =
        update_members!("due_us = v_due_us, ");
    /// The same where the due time stays: SQLite writes the index of every column that is named,
    /// whether its value changes or not.
    SQLITE_UPDATE_MEMBERS_NOT_DUE(Uuid, Big, Uuid, Big, Big, Big, Big, Big, Big, Big, Big, Small) =
        update_members!("");
    UPDATE_TAILS(Uuid, Big, Uuid) =
        "with v (v_id, v_version, v_last) as ({rows}) ",
        "update members set version = version + 1, last_transaction_id = v_last ",
        "from v where id = v_id and version = v_version";
    ADD_TOTALS(Uuid, Small, Uuid, Uuid, Text, Big) in "total_row" =
        "insert into window_totals (window_id, ", total!(), ", amount) {rows} ",
        "on conflict (window_id, ", total!(), ") ",
        "do update set amount = window_totals.amount + excluded.amount";
    MOVE_POSITIONS(Uuid, Text, Big, Big, Big, Big, Big, Boolean, Big) in "position_change" =
        "with v (v_party, v_currency, v_debits, v_credits, v_funds, v_reserved, ",
        "v_limit, v_net_inbound, v_at_least) as ({rows}) ",
        "update positions set debits = debits + v_debits, credits = credits + v_credits, ",
        "funds = funds + v_funds, reserved = reserved + v_reserved ",
        "from v where party = v_party and currency = v_currency and (v_at_least is null ",
        "or v_limit + (funds + v_funds) ",
        "+ (case when v_net_inbound then credits + v_credits else 0 end) ",
        "- (debits + v_debits) - (reserved + v_reserved) >= v_at_least)";
    /// Positions that move for the first time; answers which those are.
    OPEN_POSITIONS(Uuid, Text) =
        "with k (k_party, k_currency) as ({rows}) ",
        "insert into positions (", position!(), ") ",
        "select k_party, k_currency, 0, 0, 0, 0 from k where true ",
        "on conflict (party, currency) do nothing returning party, currency";

    /// Where the ids of a window begin; a process whose clock is behind may find an earlier one.
    BEGIN_SPAN(Uuid, Uuid) =
        "update windows set first_transaction_id = $2 ",
        "where id = $1 and (first_transaction_id is null or first_transaction_id > $2)";

    // Windows, registry and settlements.

    WINDOWS(Uuid) =
        "with k (k_id) as ({rows}) ",
        "select ", window!(), " from k join windows on id = k_id";
    WINDOW_BY_NUMBER(Big) =
        "select ", window!(), " from windows where number = $1";
    TOTALS(Uuid) =
        "with k (k_window) as ({rows}) ",
        "select window_id, ", total!(), ", amount from k join window_totals on window_id = k_window";
    LAST_TRANSACTION() =
        "select id from transactions where declined is null order by id desc limit 1";
    CLOSE_WINDOW(Uuid, Big, Uuid, Bytes) =
        "update windows set state = 2, closed_us = $2, last_transaction_id = $3, ",
        "totals_hash = $4 where id = $1 and state = 1";
    INSERT_WINDOWS(Uuid, Big, Small, Big, Big, Uuid, Bytes) =
        "insert into windows (", window!(), ") {rows}";
    MOVE_WINDOWS(Uuid, Small, Small) =
        "with v (v_id, v_from, v_to) as ({rows}) ",
        "update windows set state = v_to from v where id = v_id and state = v_from";
    INSERT_SETTLEMENTS(Uuid, Small, Small, Big, Text) =
        "insert into settlements (id, state, netting, computed_us, computed_by) {rows}";
    SETTLEMENT_OF(Uuid) =
        "select settlement_id from settlement_windows join settlements on id = settlement_id ",
        "where window_id = $1 and state <> 5";
    INSERT_SETTLEMENT_WINDOWS(Uuid, Integer, Uuid) =
        "insert into settlement_windows (settlement_id, place, window_id) {rows}";
    INSERT_SETTLEMENT_POSITIONS(Uuid, Text, Uuid, Big, Big) =
        "insert into settlement_positions (settlement_id, currency, party, net_micros, net_minor) ",
        "{rows}";
    INSERT_SETTLEMENT_OBLIGATIONS(Uuid, Text, Uuid, Uuid, Big) =
        "insert into settlement_obligations (settlement_id, currency, payer, payee, amount_minor) ",
        "{rows}";
    INSERT_SETTLEMENT_CURRENCIES(Uuid, Text, Big, Big) =
        "insert into settlement_currencies (settlement_id, currency, gross_micros, ",
        "rounding_micros) {rows}";
    INSERT_PARTNERS(Uuid, Text, Text, Small, Small, Big) =
        "insert into partners (", partner!(), ") {rows}";
    INSERT_AGREEMENTS(
        Uuid, Uuid, Uuid, Integer, Small, Small, Text, Big, Text, Big, Big, Text, Big, Text
    ) =
        "insert into agreements (", agreement!(), ") {rows}";
    ACCEPT_AGREEMENT(Uuid, Small, Text, Big, Big, Text, Big) =
        "update agreements set state = $2, accepter = $3, accepted_us = $4, effective_us = $5, ",
        "counterparty_accepter = $6, counterparty_accepted_us = $7 where id = $1 and state = 1";
    NEXT_EDITION() =
        "update network set rulebook_version = rulebook_version + 1 where singleton = 1";
    SET_CLOCK(Big) =
        "update network set clock_us = $1 where singleton = 1";
    AGREEMENT(Uuid) =
        "select ", agreement!(), " from agreements where id = $1";
    AGREEMENT_VERSIONS(Uuid, Uuid) =
        "select count(*) from agreements ",
        "where partner_id = $1 and counterparty_id is not distinct from $2";
    PARTNER_BY_CODE(Text) =
        "select ", partner!(), " from partners where code = $1";
    FACE_VALUES() =
        "select currency, major_per_point from face_values order by currency";
    RULEBOOK_PARTNERS() =
        "select id, status from partners order by id";
    RULEBOOK_AGREEMENTS() =
        "select id, partner_id, counterparty_id, effective_us, terms from agreements ",
        "where state = 2 order by id";

    // Questions.

    NETWORK() =
        "select id, mode, clock_us, rulebook_version from network";
    MEMBER_LOTS(Uuid) =
        "select ", lot!(), " from lots where member_id = $1 and ", live!(),
        " order by expires_us, id";
    MEMBER_IDENTIFIERS(Uuid) =
        "select ", identifier!(), " from identifiers where member_id = $1 order by hash";
    /// Where a member's history begins: at its last transaction.
    LAST_OF_MEMBER(Uuid) =
        "select last_transaction_id from members where id = $1";
    /// Where it goes on, before a transaction of that member.
    PREVIOUS_OF_MEMBER(Uuid, Uuid) =
        "select previous_id from transactions where id = $2 and member_id = $1";
    /// A member's history from `$2` back, of partner `$3` if any, until `$4` are found.
    ACTIVITY(Uuid, Uuid, Uuid, Big) =
        "with recursive chain (c_id, c_previous, c_place, c_found) as (",
        "select id, previous_id, 1, case when $3 is null or partner_id = $3 then 1 else 0 end ",
        "from transactions where id = $2 and member_id = $1 ",
        "union all ",
        "select id, previous_id, c_place + 1, ",
        "c_found + case when $3 is null or partner_id = $3 then 1 else 0 end ",
        "from chain join transactions on id = c_previous and member_id = $1 where c_found < $4) ",
        "select ", transaction!(), " from chain join transactions on id = c_id and member_id = $1 ",
        "where $3 is null or partner_id = $3 order by c_place";
    OPEN_WINDOW() =
        "select ", window!(), " from windows where state = 1";
    WINDOW_PAGE(Big, Big) =
        "select ", window!(), " from windows where $1 is null or number < $1 ",
        "order by number desc limit $2";
    WINDOW_SPAN(Uuid) =
        "select first_transaction_id, last_transaction_id, closed_us from windows where id = $1";
    TOTALS_OF_MEASURE(Uuid, Small) =
        "with k (k_window, k_measure) as ({rows}) ",
        "select window_id, ", total!(), ", amount from k join window_totals ",
        "on window_id = k_window and measure = k_measure";
    ALL_TOTALS() =
        "select ", total!(), ", cast(sum(amount) as bigint) from window_totals group by ", total!();
    POSTING_PAGE(Uuid, Uuid, Uuid, Uuid, Big) =
        "select ", transaction!(), " from transactions where id > $1 and id <= $2 ",
        "and declined is null and ($3 is null or window_id = $3) ",
        "and ($4 is null or member_id = $4) order by id limit $5";
    POSITIONS_OF(Uuid) =
        "select ", position!(), " from positions where $1 is null or party = $1";
    PARTNER(Uuid) =
        "select ", partner!(), " from partners where id = $1";
    PARTNER_PAGE(Uuid, Big) =
        "select ", partner!(), " from partners where id > $1 order by id limit $2";
    AGREEMENT_PAGE(Uuid, Uuid, Big) =
        "select ", agreement!(), " from agreements where id < $1 ",
        "and ($2 is null or partner_id = $2 or counterparty_id = $2) order by id desc limit $3";
    SETTLEMENT(Uuid) =
        "select id, state, netting, computed_us, computed_by from settlements where id = $1";
    SETTLEMENT_PAGE(Uuid, Big) =
        "select id, state, netting, computed_us, computed_by from settlements where id < $1 ",
        "order by id desc limit $2";
    SETTLEMENT_WINDOWS(Uuid) =
        "with k (k_id) as ({rows}) select settlement_id, window_id ",
        "from k join settlement_windows on settlement_id = k_id order by settlement_id, place";
    SETTLEMENT_POSITIONS(Uuid) =
        "with k (k_id) as ({rows}) select settlement_id, currency, party, net_micros, net_minor ",
        "from k join settlement_positions on settlement_id = k_id ",
        "order by settlement_id, currency, party";
    SETTLEMENT_OBLIGATIONS(Uuid) =
        "with k (k_id) as ({rows}) select settlement_id, currency, payer, payee, amount_minor ",
        "from k join settlement_obligations on settlement_id = k_id ",
        "order by settlement_id, currency, payer, payee";
    SETTLEMENT_CURRENCIES(Uuid) =
        "with k (k_id) as ({rows}) select settlement_id, currency, gross_micros, rounding_micros ",
        "from k join settlement_currencies on settlement_id = k_id order by settlement_id, currency";
    HOLDINGS() =
        "select issuer, cast(sum(pending) as bigint), cast(sum(available) as bigint), ",
        "cast(sum(held) as bigint), cast(sum(debt) as bigint) from (",
        "select issuer_id as issuer, coalesce(pending, 0) as pending, available, ",
        "coalesce(held, 0) as held, 0 as debt from lots where ", live!(), " ",
        "union all select issuer_id, 0, 0, 0, points from debts where points > 0",
        ") as holdings group by issuer";

    // Everything, page by page.

    TRANSACTION_COUNT() =
        "select count(*) from transactions";
    TRANSACTION_PAGE(Uuid, Big) =
        "select ", transaction!(), " from transactions where id > $1 order by id limit $2";
    LOT_PAGE(Uuid, Big) =
        "select ", lot!(), " from lots where id > $1 order by id limit $2";
    MEMBER_PAGE(Uuid, Big) =
        "select ", member!(), " from members where id > $1 order by id limit $2";
    ALL_DEBTS() =
        "select member_id, issuer_id, points from debts where points > 0 ",
        "order by member_id, issuer_id";
    ALL_WINDOWS() =
        "select ", window!(), " from windows order by number";

    // Setting up.

    INSERT_NETWORK(Uuid, Small, Big, Big, Big) =
        "insert into network (singleton, id, mode, clock_us, rulebook_version, created_us) ",
        "values (1, $1, $2, $3, $4, $5)";
    IDENTIFIER_KEY() =
        "select identifier_key from network";
    CLAIM_IDENTIFIER_KEY(Bytes) =
        "update network set identifier_key = $1 where singleton = 1 and identifier_key is null";
    INSERT_FACE_VALUES(Text, Text) =
        "insert into face_values (currency, major_per_point) {rows}";
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Connection as _, Row as _};

    use super::*;
    use crate::postgres::prepare_unit;
    use crate::testing::{Engine, TestDb, settings};

    /// Tables that grow with every posting or member.
    const LARGE: &[&str] = &[
        "requests",
        "checks",
        "identifiers",
        "transactions",
        "lots",
        "members",
        "debts",
        "positions",
        "window_totals",
    ];

    /// Statements that read a whole table by intent; no unit runs them.
    const READ_ALL: &[&str] = &[
        "HOLDINGS",
        "ALL_TOTALS",
        "POSITIONS_OF",
        "TRANSACTION_COUNT",
        "ALL_DEBTS",
    ];

    /// Fails where a plan reads a large table from end to end.
    fn assert_no_scan(engine: Engine, name: &str, plan: &[String], scan: &str) {
        for line in plan {
            let scanned = line
                .split(scan)
                .nth(1)
                .and_then(|rest| rest.split_whitespace().next());
            let is_large = scanned.is_some_and(|table| LARGE.contains(&table));
            assert!(
                !is_large || READ_ALL.contains(&name),
                "{engine}, {name}:\n{}",
                plan.join("\n")
            );
        }
    }

    #[test]
    fn what_writes_leaves_its_half_on_sqlite_and_nothing_else_is_touched() {
        for (name, statement) in ALL {
            let (own, sqlite) = (statement.sql, statement.or_fail());
            let may_fail = !statement.table().is_empty() && !own.contains("delete from ");
            assert_eq!(
                sqlite.matches(" or fail ").count(),
                usize::from(may_fail),
                "{name}"
            );
            assert_eq!(sqlite.replace(" or fail ", " "), *own, "{name}");
            let so = format!(
                " or fail {}{} ",
                if own.contains("insert into ") {
                    "into "
                } else {
                    ""
                },
                statement.table()
            );
            assert!(!may_fail || sqlite.contains(&so), "{name}: {sqlite}");
        }
    }

    #[tokio::test]
    async fn no_statement_scans_a_large_table_on_sqlite() {
        let db = TestDb::sandbox(Engine::Sqlite)
            .await
            .expect("a file can always be had");
        let file = db.file().expect("SQLite has a file");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        let mut connection = sqlx::ConnectOptions::connect(&options)
            .await
            .expect("the file opens");
        for (name, statement) in ALL {
            // It walks the key from its end and stops at the first.
            if *name == "POSTGRES_LIVE_LOTS" || *name == "LAST_TRANSACTION" {
                continue;
            }
            for chunk in 0..CHUNK_ROWS.len() {
                let explain = format!("explain query plan {}", statement.sqlite(chunk));
                let plan = sqlx::query(AssertSqlSafe(explain))
                    .fetch_all(&mut connection)
                    .await;
                let plan = plan.unwrap_or_else(|error| panic!("{name}: {error}"));
                let plan: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
                assert_no_scan(Engine::Sqlite, name, &plan, "SCAN ");
            }
        }
        connection.close().await.expect("the file closes");
        db.remove().await;
    }

    #[tokio::test]
    async fn the_types_of_rows_are_those_of_the_statements_on_postgres() {
        let Some(db) = TestDb::sandbox(Engine::Postgres).await else {
            return;
        };
        let mut connection = sqlx::postgres::PgConnection::connect(&db.url)
            .await
            .expect("the database is there");
        for (name, statement) in ALL {
            let Some(row) = statement.row else { continue };
            let columns = "select format_type(atttypid, null) from pg_attribute \
                           where attrelid = $1::text::regclass and attnum > 0 order by attnum";
            let columns = sqlx::query_scalar::<_, String>(columns)
                .bind(row)
                .fetch_all(&mut connection)
                .await
                .unwrap_or_else(|error| panic!("{name}: {row}: {error}"));
            let kinds: Vec<_> = statement.types.iter().map(|kind| kind.postgres()).collect();
            assert_eq!(columns, kinds, "{name}: {row}");
        }
        connection
            .close()
            .await
            .expect("the database is still there");
        db.remove().await;
    }

    /// The plan of a statement that is prepared with these types and run on these values.
    async fn plan_of(
        connection: &mut sqlx::postgres::PgConnection,
        name: &str,
        (types, values): (&str, &str),
        text: &str,
    ) -> Vec<String> {
        let prepare = AssertSqlSafe(format!("prepare {name} {types} as {text}"));
        let prepared = sqlx::raw_sql(prepare).execute(&mut *connection).await;
        prepared.unwrap_or_else(|error| panic!("{name}: {error}"));
        let explain = format!("explain (costs off) execute {name} {values}");
        let explain = sqlx::raw_sql(AssertSqlSafe(explain));
        let plan = explain.fetch_all(connection).await;
        let plan = plan.unwrap_or_else(|error| panic!("{name}: {error}"));
        plan.iter().map(|row| row.get(0)).collect()
    }

    #[tokio::test]
    async fn no_statement_scans_a_large_table_on_postgres() {
        let Some(db) = TestDb::sandbox(Engine::Postgres).await else {
            return;
        };
        let mut connection = sqlx::postgres::PgConnection::connect(&db.url)
            .await
            .expect("the database is there");
        let prepare = AssertSqlSafe(prepare_unit(&settings()));
        sqlx::raw_sql(prepare)
            .execute(&mut connection)
            .await
            .expect("can be set");
        for (name, statement) in ALL {
            if *name == "SQLITE_LIVE_LOTS" {
                continue;
            }
            let types = statement.parameters();
            let nulls = vec!["null"; types.len()].join(", ");
            let types = if types.is_empty() {
                String::new()
            } else {
                format!("({})", types.join(", "))
            };
            let nulls = if nulls.is_empty() {
                nulls
            } else {
                format!("({nulls})")
            };
            let call = (types.as_str(), nulls.as_str());
            let plan = plan_of(&mut connection, name, call, &statement.postgres()).await;
            assert_no_scan(Engine::Postgres, name, &plan, "Seq Scan on ");
            // The first lots must be the first that are read, not the first of all in order.
            let sorts = plan
                .iter()
                .any(|line| line.trim_start().starts_with("->  Sort"));
            assert!(
                *name != "POSTGRES_LIVE_LOTS" || !sorts,
                "{}",
                plan.join("\n")
            );
        }
        let members = [&MEMBERS, &REQUESTS, &CHECKS];
        let written = [
            &INSERT_REQUESTS,
            &DELETE_CHECKS,
            &INSERT_TRANSACTIONS,
            &UPDATE_LOTS,
            &UPDATE_MEMBERS,
            &UPSERT_DEBTS,
            &ADD_TOTALS,
            &MOVE_POSITIONS,
        ];
        let joint = [
            (
                "members_asking",
                &[][..],
                &members[..],
                asking(members[0], &members[1..]),
            ),
            ("write_together", &[], &written[..], together(&written)),
            ("write_at_once", &HOLD, &written[..], at_once(&written)),
        ];
        for (name, first, parts, text) in joint {
            let types = parts.iter().flat_map(|part| part.parameters());
            let first = first.iter().map(|kind| (*kind).to_owned());
            let types: Vec<_> = first.chain(types).collect();
            let nulls = format!("({})", vec!["null"; types.len()].join(", "));
            let types = format!("({})", types.join(", "));
            let plan = plan_of(&mut connection, name, (&types, &nulls), &text).await;
            assert_no_scan(Engine::Postgres, name, &plan, "Seq Scan on ");
        }
        connection
            .close()
            .await
            .expect("the database is still there");
        db.remove().await;
    }
}
