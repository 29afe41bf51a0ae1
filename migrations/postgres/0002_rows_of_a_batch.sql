-- The wide sets of rows that batches bring, and the keys that every batch asks for, a type for each:
-- PostgreSQL unfolds one array of rows in one pass, but each of as many arrays as a row has columns by
-- itself. The columns are those of the statement that names the type (services/store/src/statements.rs),
-- in its order. No table has a column of these types.

create type request_key as (id uuid, scope uuid);
create type check_key as (partner_id uuid, kind smallint, check_id text collate "C");

create type request_row as (
  id uuid, scope uuid, subject_id uuid, member_id uuid, subject smallint, fingerprint bytea
);
create type check_row as (
  partner_id uuid, kind smallint, check_id text collate "C", transaction_id uuid, member_id uuid
);
create type transaction_row as (
  id uuid, member_id uuid, partner_id uuid, window_id uuid, agreement_id uuid, original_id uuid,
  previous_id uuid,
  posted_us bigint, occurred_us bigint, points bigint, points_forgiven bigint, points_expired bigint,
  amount_minor bigint,
  balance_pending bigint, balance_available bigint, balance_held bigint, balance_debt bigint,
  next_expiry_us bigint, next_expiry_points bigint, kind smallint, declined smallint, channel smallint,
  offline boolean, currency text,
  check_id text, location text, terminal text, operator_ref text, shift_ref text, business_date text,
  posting bytea, digest bytea, open_points bigint, open_amount_minor bigint, reversed_by uuid
);
create type lot_row as (
  id uuid, member_id uuid, issuer_id uuid, agreement_id uuid, earned_us bigint,
  pending_until_us bigint, expires_us bigint, points bigint, available bigint, pending bigint,
  held bigint, expired bigint
);
create type lot_change as (
  id uuid, member_id uuid, points bigint, available bigint, pending bigint, held bigint, expired bigint
);
create type member_change as (
  id uuid, version bigint, last_transaction_id uuid, pending bigint, available bigint, held bigint,
  debt bigint, next_expiry_us bigint, next_expiry_points bigint, next_maturity_us bigint,
  due_us bigint, status smallint
);
create type total_row as (
  window_id uuid, measure smallint, party uuid, counterparty uuid, unit text collate "C", amount bigint
);
create type position_change as (
  party uuid, currency text collate "C", debits bigint, credits bigint, funds bigint, reserved bigint,
  inbound_limit bigint, net_inbound boolean, at_least bigint
);
