//! The contract of shared state: one suite, instantiated per backend, and what only Redis has.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "these tests run in real time and name their seed")]

mod backend;
mod leasing;
mod live;
mod outage;
mod redis_layout;
mod redis_publication;
mod sample;
mod suite;

use backend::Backend;

/// Instantiates tests for each backend.
macro_rules! on_both_backends {
    ($($module:ident::$test:ident),+ $(,)?) => {
        mod in_process {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                crate::$module::$test(super::Backend::in_process()).await;
            })+
        }

        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                crate::$module::$test(super::Backend::redis().await).await;
            })+
        }
    };
}

on_both_backends![
    suite::an_empty_store_has_version_zero,
    suite::every_kind_of_entry_comes_back_as_published,
    suite::publishing_no_changes_changes_nothing,
    suite::the_last_change_of_a_key_stands,
    suite::everything_removes_what_it_does_not_name,
    suite::models_are_accounted_for_as_they_change,
    suite::deltas_lead_to_the_same_snapshot_as_a_full_read,
    suite::a_large_publication_asks_for_a_full_read,
    suite::many_small_publications_are_followed,
    suite::a_publication_for_another_snapshot_is_refused,
    suite::a_version_that_is_gone_or_unknown_is_too_old,
    suite::readers_never_see_half_of_a_publication,
    suite::concurrent_publishers_leave_it_settled_with_versions_in_a_row,
    suite::a_publication_wakes_subscribers,
    suite::a_publication_before_the_first_wait_is_not_missed,
    suite::leases_exclude_renew_and_expire,
    suite::a_released_lease_is_free_and_a_lost_one_is_left_alone,
    suite::counters_count_within_their_window,
    suite::heartbeats_are_listed_until_they_expire,
    live::figures_stand_for_their_time_and_leave_with_their_gateway,
    live::the_newest_figures_of_a_run_stand,
    suite::health_states_stand_until_they_pass,
    suite::an_api_key_has_no_endless_health_states,
    suite::changes_of_health_are_announced_and_followed,
    suite::only_the_last_changes_of_health_are_kept,
    suite::the_newest_note_of_a_job_stands_for_everyone,
    suite::a_server_tells_its_version_and_time,
    suite::owners_of_responses_are_known_for_their_time,
    leasing::leases_never_pass_the_limit_whatever_is_lost,
    leasing::slices_shrink_as_a_limit_nears,
    leasing::what_a_gone_gateway_holds_comes_free,
    leasing::what_the_ledger_counted_is_not_leased_again,
    leasing::what_was_used_beyond_a_lease_counts,
    leasing::many_counters_go_in_one_round_trip,
    leasing::gateways_that_lease_are_counted,
];
