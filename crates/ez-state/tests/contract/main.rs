//! The contract of shared state: one suite, instantiated per backend, and what only Redis has.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "these tests run in real time and name their seed")]

mod backend;
mod outage;
mod redis_layout;
mod redis_publication;
mod sample;
mod suite;

use backend::Backend;

/// Instantiates tests of [`suite`] for each backend.
macro_rules! on_both_backends {
    ($($test:ident),+ $(,)?) => {
        mod in_process {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::suite::$test(super::Backend::in_process()).await;
            })+
        }

        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::suite::$test(super::Backend::redis().await).await;
            })+
        }
    };
}

on_both_backends![
    an_empty_store_has_version_zero,
    every_kind_of_entry_comes_back_as_published,
    publishing_no_changes_changes_nothing,
    the_last_change_of_a_key_stands,
    everything_removes_what_it_does_not_name,
    models_are_accounted_for_as_they_change,
    deltas_lead_to_the_same_snapshot_as_a_full_read,
    a_large_publication_asks_for_a_full_read,
    many_small_publications_are_followed,
    a_publication_for_another_snapshot_is_refused,
    a_version_that_is_gone_or_unknown_is_too_old,
    readers_never_see_half_of_a_publication,
    concurrent_publishers_leave_it_settled_with_versions_in_a_row,
    a_publication_wakes_subscribers,
    a_publication_before_the_first_wait_is_not_missed,
    leases_exclude_renew_and_expire,
    a_released_lease_is_free_and_a_lost_one_is_left_alone,
    counters_count_within_their_window,
    heartbeats_are_listed_until_they_expire,
    health_states_stand_until_they_pass,
    an_api_key_has_no_endless_health_states,
    changes_of_health_are_announced_and_followed,
    only_the_last_changes_of_health_are_kept,
    the_newest_note_of_a_job_stands_for_everyone,
    a_server_tells_its_version_and_time,
    owners_of_responses_are_known_for_their_time,
];
