//! What a store must do, on both engines: one suite, and every test runs on each.
//!
//! A test is a function of a database with a sandbox in it. It is run twice, under the names
//! `sqlite::…` and `postgres::…`; nothing in it knows which one it has, except where a test looks at
//! the engine itself and says so.

mod batch;
mod deferred;
mod fixtures;
mod positions;
mod posting;
mod questions;
mod registry;
mod scans;
mod setting_up;
mod units;
mod windows;
mod writing;

use coalition_store::testing::{Engine, TestDb};

async fn run(engine: Engine, test: impl AsyncFnOnce(&TestDb)) {
    if let Some(db) = TestDb::sandbox(engine).await {
        test(&db).await;
        db.remove().await;
    }
}

macro_rules! on_both_engines {
    ($($module:ident: $($test:ident)+;)+) => {
        mod sqlite {
            $(mod $module {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    crate::run(crate::Engine::Sqlite, crate::$module::$test).await;
                })+
            })+
        }

        mod postgres {
            $(mod $module {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    crate::run(crate::Engine::Postgres, crate::$module::$test).await;
                })+
            })+
        }
    };
}

on_both_engines! {
    batch:
        requests_are_found_by_id_and_scope
        checks_are_found_freed_and_used_again
        identifiers_lead_to_members
        members_come_back_as_written
        a_stale_version_changes_nothing
        due_members_come_the_longest_due_first
        due_times_stay_and_move_with_their_rows
        transactions_come_back_as_written
        what_remains_of_a_transaction_changes
        lots_come_back_as_written_and_as_changed
        live_lots_come_as_demanded
        debts_are_set_and_vanish_at_zero
        totals_add_up
        a_total_beyond_the_range_is_refused
        sets_of_every_size_are_written_and_found
        empty_sets_are_no_trouble;
    positions:
        positions_move
        a_floor_holds_exactly_where_it_says
        a_floor_holds_for_a_position_that_never_moved
        credits_count_where_they_may
        two_units_cannot_use_the_same_headroom;
    posting:
        a_limit_shrinks_command_by_command
        a_balance_shrinks_command_by_command
        points_of_many_lots_are_spent
        lots_that_are_wrong_are_named_and_nothing_is_told_twice;
    deferred:
        what_a_deferred_unit_writes_is_there
        a_deferred_unit_writes_all_or_nothing
        a_deferred_unit_that_writes_nothing_leaves_nothing
        a_cut_refuses_deferred_units
        a_change_of_the_rulebook_refuses_deferred_units
        a_move_of_the_clock_refuses_deferred_units
        a_deferred_unit_that_waits_for_a_cut_hears_of_it;
    writing:
        all_that_a_batch_changes_is_written
        one_row_that_is_refused_refuses_the_batch;
    windows:
        a_cut_closes_one_window_and_opens_the_next
        a_window_is_cut_once
        exactly_one_window_is_open
        windows_move_between_states
        a_cut_waits_for_batches_and_batches_for_a_cut
        a_steady_stream_of_batches_does_not_starve_a_cut
        a_process_that_stalls_within_a_unit_is_not_waited_for_long
        the_last_transaction_is_the_greatest;
    registry:
        partners_are_registered_once
        agreements_are_proposed_and_accepted
        agreements_of_pairs_count_their_own_versions
        the_rulebook_moves_with_every_change
        a_settlement_comes_back_as_written
        settlements_come_latest_first
        the_clock_of_a_sandbox_is_set;
    questions:
        a_member_is_seen_whole
        members_come_with_word_of_what_else_is_there
        activity_comes_latest_first
        activity_of_one_partner_is_found
        activity_knows_declines_and_several_units
        postings_are_listed_by_window_partner_and_member
        a_search_for_rare_postings_breaks_off_and_goes_on
        sums_over_windows_and_members
        windows_are_listed_latest_first
        absent_things_are_absent;
    scans:
        a_scan_sees_one_instant
        a_scan_reads_everything_page_by_page
        an_edited_transaction_is_found
        an_unreadable_transaction_is_found_and_passed;
    units:
        what_is_rolled_back_or_dropped_is_not_stored
        a_unit_that_failed_cannot_be_committed
        a_call_dropped_half_way_leaves_nothing_open
        of_two_writers_of_one_member_one_wins
        of_two_writers_of_one_request_one_wins
        a_decline_moves_the_members_version
        many_units_at_once_lose_nothing
        the_log_of_a_file_is_copied_beside_the_commits
        a_closed_store_answers_that_it_cannot_be_reached
        units_one_after_the_other_share_a_connection;
    setting_up:
        migrating_again_changes_nothing
        other_terms_are_refused
        a_newer_schema_is_refused
        an_edited_migration_is_refused
        a_schema_of_another_version_is_refused
        what_only_one_engine_has_is_looked_at_too
        another_identifier_key_is_refused
        of_two_identifier_keys_at_once_one_wins
        several_processes_may_migrate_at_once
        an_empty_database_says_what_to_do
        opening_an_existing_database_is_quick
        one_process_has_a_file
        an_earn_takes_less_than_a_kibibyte;
}
