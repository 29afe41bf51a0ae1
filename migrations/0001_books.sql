-- The books of one network: the portable schema, run as it stands on PostgreSQL and on SQLite.
--
-- Habits of this file:
-- * Only uuid, bigint, integer, smallint, boolean, bytea and text; no defaults, no triggers.
-- * `_us` ends every instant: microseconds since 1970-01-01T00:00:00Z. Money is in micro-units of
--   the currency's major unit (`_micros`, or by the table's comment) or in minor units (`_minor`).
-- * A party is a partner's id; the nil uuid is the operator.
-- * Kinds, states and reasons are small numbers, never given to another meaning; they are named in
--   services/ledger and services/store/src/codec.rs.
-- * Where a column says "null: none", zero is stored as null: most rows have nothing there.
-- * `/* on SQLite: without rowid */` is a word for SQLite and a comment for PostgreSQL: the rows are
--   kept in their key, which spares a fifth of the bytes. It is the only such word.
-- * What belongs to a member carries member_id, and (id, member_id) is its key: ids ascend with
--   time, so that inserts append; the member is in the key, so that tables can be distributed by
--   it. No foreign key leads from or to such a table.
--
-- A migration once landed is never edited.

-- The network: one row.
create table network (
    singleton         smallint not null, -- always 1
    id                uuid     not null, -- names the network in page tokens and exports
    mode              smallint not null, -- 1 sandbox, 2 production
    clock_us          bigint,            -- where a sandbox's clock stands; null: the system's time
    rulebook_version  bigint   not null, -- moves with every change of partners and agreements
    created_us        bigint   not null,
    constraint network_pkey primary key (singleton),
    constraint network_is_one check (singleton = 1),
    constraint network_mode check (mode in (1, 2)),
    constraint network_clock check (clock_us is null or mode = 1)
);

-- The currencies of the network.
create table face_values (
    currency          text     not null, -- ISO 4217
    major_per_point   text     not null, -- exact decimal: major units that a point is worth at the till
    constraint face_values_pkey primary key (currency)
);

-- Partners.
create table partners (
    id                uuid     not null,
    code              text     not null, -- short handle
    display_name      text     not null,
    kind              smallint not null, -- kind of shop, as the public interface numbers it
    status            smallint not null, -- 1 active, 2 suspended
    created_us        bigint   not null,
    constraint partners_pkey primary key (id),
    constraint partners_code unique (code),
    constraint partners_status check (status in (1, 2))
);

-- Agreement versions of a partner, or of a pair of partners.
create table agreements (
    id                uuid     not null,
    partner_id        uuid     not null, -- whose terms; of a pair, the issuer
    counterparty_id   uuid,              -- of a pair, the redeemer
    version           integer  not null, -- counts the versions of a partner or pair, from 1
    state             smallint not null, -- 1 proposed, 2 accepted
    proposed_by       smallint not null, -- 1 operator, 2 partner
    proposer          text     not null, -- subject of the token
    proposed_us       bigint   not null,
    accepter          text,              -- of operator and partner, the one who did not propose
    accepted_us       bigint,
    effective_us      bigint,            -- from when it is in force
    counterparty_accepter     text,      -- of a pair, the redeemer's person
    counterparty_accepted_us  bigint,
    terms             text     not null, -- JSON: services/ledger/src/agreement.rs, Terms
    constraint agreements_pkey primary key (id),
    constraint agreements_partner foreign key (partner_id) references partners (id),
    constraint agreements_counterparty foreign key (counterparty_id) references partners (id),
    constraint agreements_version check (version >= 1),
    constraint agreements_state check (state in (1, 2)),
    constraint agreements_proposed_by check (proposed_by in (1, 2)),
    constraint agreements_accepted check (
        state = 1 or (accepter is not null and accepted_us is not null and effective_us is not null
            and (counterparty_id is null or counterparty_accepted_us is not null))
    )
);
create unique index agreements_own on agreements (partner_id, version)
    where counterparty_id is null;
create unique index agreements_pair on agreements (partner_id, counterparty_id, version)
    where counterparty_id is not null;
create index agreements_counterparty on agreements (counterparty_id)
    where counterparty_id is not null;

-- Members: opaque ids with their sums; the row guards the member's lots, debts and history.
create table members (
    id                   uuid     not null,
    last_transaction_id  uuid,              -- head of the chain through transactions.previous_id
    version              bigint   not null, -- moves with every write
    pending              bigint   not null, -- points, over all lots
    available            bigint   not null, -- points, over all lots
    held                 bigint   not null, -- points, over all lots
    debt                 bigint   not null, -- points, over all debts
    next_expiry_us       bigint,            -- earliest expiry among lots with available points
    next_expiry_points   bigint,            -- points that expire then
    next_maturity_us     bigint,            -- earliest end of a pending time
    due_us               bigint,            -- the earlier of the two: when the sweep has work
    enrolled_us          bigint   not null,
    status               smallint not null, -- 1 active, 2 frozen, 3 closed
    constraint members_pkey primary key (id),
    constraint members_version check (version >= 0),
    constraint members_points check (pending >= 0 and available >= 0 and held >= 0 and debt >= 0),
    constraint members_expiry check ((next_expiry_us is null) = (next_expiry_points is null)),
    constraint members_due check (
        (due_us is null) = (next_expiry_us is null and next_maturity_us is null)
    ),
    constraint members_status check (status in (1, 2, 3))
) /* on SQLite: without rowid */;
create index members_due on members (due_us) where due_us is not null;

-- How tills name members.
create table identifiers (
    hash              bytea    not null, -- keyed hash, 32 bytes
    member_id         uuid     not null,
    kind              smallint not null, -- as the public interface numbers it
    masked            text     not null, -- what may be shown of it
    constraint identifiers_pkey primary key (hash)
) /* on SQLite: without rowid */;
create index identifiers_member on identifiers (member_id);

-- Requests: the memory that makes a retry a replay.
create table requests (
    id                uuid     not null, -- as the caller gave it
    scope             uuid     not null, -- the caller's partner; nil: operators
    subject_id        uuid     not null, -- what it led to
    member_id         uuid,              -- the member concerned
    subject           smallint not null, -- what subject_id names: ledger, Subject
    fingerprint       bytea    not null, -- digest of the request's content, 16 bytes
    constraint requests_pkey primary key (id, scope)
) /* on SQLite: without rowid */;

-- Checks that were used.
create table checks (
    partner_id        uuid     not null,
    transaction_id    uuid     not null, -- what used it
    member_id         uuid     not null, -- whose transaction that is
    kind              smallint not null, -- ledger, Kind
    check_id          text     not null, -- the shop's number
    constraint checks_pkey primary key (partner_id, kind, check_id)
) /* on SQLite: without rowid */;

-- Transactions with their postings: the books. Rows are only ever added, except for what remains
-- open of them (open_points, open_amount_minor, reversed_by).
create table transactions (
    id                       uuid     not null,
    member_id                uuid     not null, -- nil: none
    partner_id               uuid     not null, -- for whom it was posted
    window_id                uuid     not null,
    agreement_id             uuid,              -- version in force for the partner
    original_id              uuid,              -- what it returns, refunds or reverses
    previous_id              uuid,              -- the member's transaction before this one
    reversed_by              uuid,              -- what undid it whole, by reference
    posted_us                bigint   not null, -- the network's time
    occurred_us              bigint,            -- the shop's time; null: the same
    points                   bigint   not null,
    points_forgiven          bigint,            -- null: none
    points_expired           bigint,            -- null: none
    amount_minor             bigint,            -- basis, goods, check total or funds; null: no amount
    balance_pending          bigint,            -- balance block after it; null: none
    balance_available        bigint,            -- null: none
    balance_held             bigint,            -- null: none
    balance_debt             bigint,            -- null: none
    next_expiry_us           bigint,            -- null: nothing is set to expire
    next_expiry_points       bigint,
    open_points              bigint,            -- points that may still be undone; null: all of points
    open_amount_minor        bigint,            -- amount that may still be undone; null: all of amount_minor
    kind                     smallint not null, -- ledger, Kind
    declined                 smallint,          -- ledger, Decline; null: posted
    channel                  smallint,          -- ledger, Channel
    offline                  boolean,           -- null: no
    currency                 text,              -- of amount_minor, ISO 4217
    check_id                 text,
    location                 text,
    terminal                 text,
    operator_ref             text,
    shift_ref                text,
    business_date            text,
    posting                  bytea,             -- transfers: services/store/src/codec/posting.rs; null: none
    digest                   bytea    not null, -- over all columns but the open ones, 16 bytes
    constraint transactions_pkey primary key (id, member_id),
    constraint transactions_amount check ((amount_minor is null) = (currency is null)),
    constraint transactions_expiry check ((next_expiry_us is null) = (next_expiry_points is null))
) /* on SQLite: without rowid */;

-- Lots: points of one earn, one issuer, one expiry.
create table lots (
    id                uuid     not null,
    member_id         uuid     not null,
    issuer_id         uuid     not null,
    agreement_id      uuid     not null, -- version that the lot is pinned to
    earned_us         bigint   not null,
    pending_until_us  bigint,            -- null: as earned_us
    expires_us        bigint   not null,
    points            bigint   not null, -- earned less clawed back
    available         bigint   not null,
    pending           bigint,            -- null: none
    held              bigint,            -- null: none
    expired           bigint,            -- null: none
    constraint lots_pkey primary key (id, member_id),
    constraint lots_points check (points >= 0 and available >= 0),
    constraint lots_rest check (pending > 0 and held > 0 and expired > 0)
) /* on SQLite: without rowid */;
-- Live lots in the order in which they are spent; ties are few, and sorted when they are met.
create index lots_live on lots (member_id, expires_us)
    where available > 0 or (pending > 0 or held > 0);

-- What members owe issuers.
create table debts (
    member_id         uuid     not null,
    issuer_id         uuid     not null,
    points            bigint   not null,
    constraint debts_pkey primary key (member_id, issuer_id),
    constraint debts_points check (points >= 0)
) /* on SQLite: without rowid */;

-- Windows.
create table windows (
    id                   uuid     not null,
    number               bigint   not null, -- counts the windows, from 1
    state                smallint not null, -- 1 open, 2 closed, 3 settling, 4 settled
    opened_us            bigint   not null,
    closed_us            bigint,
    last_transaction_id  uuid,              -- the last of all when it was cut
    totals_hash          bytea,             -- SHA-256 over its totals
    constraint windows_pkey primary key (id),
    constraint windows_number unique (number),
    constraint windows_state check (state in (1, 2, 3, 4)),
    constraint windows_closed check ((state = 1) = (closed_us is null))
);
-- Exactly one is open; that there is one, the cut sees to.
create unique index windows_open on windows (state) where state = 1;

-- Running totals of a window: points, or micro-units of a currency.
create table window_totals (
    window_id         uuid     not null,
    measure           smallint not null, -- ledger, Measure
    party             uuid     not null,
    counterparty      uuid     not null,
    unit              text     not null, -- PTS or ISO 4217
    amount            bigint   not null,
    constraint window_totals_pkey primary key (window_id, measure, party, counterparty, unit),
    -- Beyond 64 bits a sum becomes a float on SQLite: refused before it gets there.
    constraint window_totals_range check (
        amount between -9000000000000000000 and 9000000000000000000
    )
) /* on SQLite: without rowid */;

-- Running sums of parties over the windows that are not settled, in micro-units.
create table positions (
    party             uuid     not null,
    currency          text     not null,
    debits            bigint   not null, -- what legs took, less what was reversed
    credits           bigint   not null, -- what legs gave, less what was reversed
    funds             bigint   not null, -- what the operator holds for the party
    reserved          bigint   not null, -- what holds have reserved
    constraint positions_pkey primary key (party, currency),
    -- Two withdrawals at once: the second one finds that it came too late, and is decided again.
    constraint positions_funds check (funds >= 0),
    -- As window_totals_range.
    constraint positions_range check (
        debits between -9000000000000000000 and 9000000000000000000
        and credits between -9000000000000000000 and 9000000000000000000
        and funds between -9000000000000000000 and 9000000000000000000
        and reserved between -9000000000000000000 and 9000000000000000000
    )
) /* on SQLite: without rowid */;

-- Settlements.
create table settlements (
    id                uuid     not null,
    state             smallint not null, -- 1 computed, 2 approved, 3 instructed, 4 settled, 5 aborted
    netting           smallint not null, -- as the public interface numbers it
    computed_us       bigint   not null,
    computed_by       text     not null, -- subject of the token
    constraint settlements_pkey primary key (id),
    constraint settlements_state check (state in (1, 2, 3, 4, 5))
);

-- The windows that a settlement settles, in its order.
create table settlement_windows (
    settlement_id     uuid     not null,
    place             integer  not null, -- from 0
    window_id         uuid     not null,
    constraint settlement_windows_pkey primary key (settlement_id, place),
    constraint settlement_windows_once unique (settlement_id, window_id),
    constraint settlement_windows_settlement foreign key (settlement_id) references settlements (id),
    constraint settlement_windows_window foreign key (window_id) references windows (id)
);

-- Nets of a settlement.
create table settlement_positions (
    settlement_id     uuid     not null,
    currency          text     not null,
    party             uuid     not null,
    net_micros        bigint   not null,
    net_minor         bigint   not null,
    constraint settlement_positions_pkey primary key (settlement_id, currency, party),
    constraint settlement_positions_settlement foreign key (settlement_id) references settlements (id)
);

-- What one party has to pay another.
create table settlement_obligations (
    settlement_id     uuid     not null,
    currency          text     not null,
    payer             uuid     not null,
    payee             uuid     not null,
    amount_minor      bigint   not null,
    constraint settlement_obligations_pkey primary key (settlement_id, currency, payer, payee),
    constraint settlement_obligations_settlement foreign key (settlement_id) references settlements (id),
    constraint settlement_obligations_amount check (amount_minor > 0),
    constraint settlement_obligations_parties check (payer <> payee)
);

-- Sums of a settlement per currency.
create table settlement_currencies (
    settlement_id     uuid     not null,
    currency          text     not null,
    gross_micros      bigint,            -- sum of all flows before netting
    rounding_micros   bigint,            -- what rounding to minor units left over
    constraint settlement_currencies_pkey primary key (settlement_id, currency),
    constraint settlement_currencies_settlement foreign key (settlement_id) references settlements (id)
);
