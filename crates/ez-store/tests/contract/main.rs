//! What the store promises, written once and run on both databases.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "tasks here stand for processes, and are awaited")]

mod alerts;
mod brute_force;
mod configuration;
mod conflicts;
mod connection;
mod figures;
mod fixture;
mod flushes;
mod ingestion;
mod journals;
mod lists;
mod log_bodies;
mod log_lists;
mod log_retention;
mod logs;
mod random;
mod statistics;
mod usage;
mod webhooks;

/// Runs every test on SQLite and on PostgreSQL; the module in its name says which.
macro_rules! on_both_databases {
    ($($subject:ident { $($test:ident,)+ })+) => {
        mod sqlite { $( mod $subject { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                crate::$subject::$test(crate::fixture::Fixture::sqlite().await).await;
            }
        )+ } )+ }

        mod postgres { $( mod $subject { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                crate::$subject::$test(crate::fixture::Fixture::postgres().await).await;
            }
        )+ } )+ }
    };
}

on_both_databases! {
    configuration {
        masters_live_and_die,
        child_keys_live_and_die,
        child_keys_count_their_use,
        child_keys_come_due,
        a_key_that_is_held_is_passed_over,
        access_of_many_keys_is_set_at_once,
        namespaces_live_and_die,
        provider_groups_live_and_die,
        api_keys_live_and_die,
        api_keys_come_due,
        bindings_live_and_die,
        models_live_and_die,
        groups_are_found_by_an_upstream_model,
        counts_hold_at_the_edges,
        a_damaged_value_names_its_place,
        damaged_rows_hide_no_others,
        models_of_a_group_come_with_all_their_candidates,
        keys_of_a_master_go_together,
        what_belongs_to_a_group_or_namespace_goes_together,
        records_are_found_by_what_others_know_them_by,
    }
    usage {
        records_add_up_once,
        overlapping_batches_add_up_once,
        only_what_has_a_quota_or_budget_is_to_be_published,
        months_are_kept_apart,
        use_counts_in_the_period_of_a_quota_that_it_was_in,
        senseless_counts_stop_at_the_highest_and_block_no_batch,
        spend_that_is_being_counted_is_not_taken_for_published,
    }
    flushes {
        a_batch_is_new_once_until_it_is_forgotten,
        of_one_batch_at_once_one_is_new,
        use_without_records_counts_like_that_of_records,
        api_keys_add_up_by_state,
        many_are_counted_at_once_and_in_any_order,
    }
    log_bodies {
        a_body_comes_with_its_record_and_once,
        bodies_go_by_their_time,
    }
    conflicts {
        duplicates_name_the_fields_of_the_rule,
        missing_references_name_the_field,
        rows_in_use_name_who_refers_to_them,
        renaming_a_namespace_takes_its_bindings_along,
    }
    lists {
        pages_add_up_in_either_order,
        filters_narrow_the_list,
        search_ignores_case_and_takes_wildcards_literally,
        a_namespace_is_found_among_others_by_its_whole_name,
        a_whole_table_can_be_walked,
    }
    journals {
        outbox_entries_wait_fail_and_go,
        an_outbox_entry_of_a_clock_ahead_does_not_wait_for_that_time,
        any_number_of_outbox_entries_goes_at_once,
        audit_is_read_newest_first,
        many_audit_entries_are_appended_in_order,
        settings_are_put_and_replaced,
        a_setting_is_held_until_the_transaction_ends,
        one_catalogue_stands_at_a_time,
        the_first_setting_stands_for_all,
        what_is_rolled_back_leaves_nothing,
        a_named_request_is_claimed_once_until_it_expires,
        of_claims_at_once_one_is_new,
    }
    logs {
        every_field_comes_back,
        ingestion_is_idempotent,
        overlapping_batches_at_once_count_each_record_once,
        a_nul_in_a_text_does_not_block_its_batch,
        paging_through_equal_times_neither_skips_nor_repeats,
        filters_narrow_the_logs,
    }
    log_lists {
        a_page_looks_at_a_bounded_number_of_records,
        a_short_page_goes_on_where_it_stopped,
        a_master_sees_no_place_of_another,
        a_key_of_a_master_has_records_of_that_master_alone,
    }
    log_retention {
        days_go_at_once_and_others_step_by_step,
        what_is_not_rolled_up_stays,
        whoever_is_at_a_day_is_left_alone_and_ingestion_goes_on,
        a_late_record_of_a_day_that_is_gone_is_taken,
        days_that_were_left_half_gone_are_removed,
        the_newest_records_are_told_from_the_others,
        an_empty_log_has_nothing_to_drop,
    }
    ingestion {
        each_record_is_told_of,
        texts_of_any_kind_come_back,
        many_keys_are_counted_at_once,
        a_day_without_records_may_come_late,
        days_are_made_by_several_at_once,
        a_day_is_made_while_others_are_written_to,
        a_day_that_was_dropped_is_made_again,
        the_next_day_is_made_ahead,
        a_table_that_is_locked_is_no_fault_of_the_records,
    }
    webhooks {
        a_delivery_waits_fails_and_arrives,
        deliveries_are_claimed_by_one_at_a_time,
        deliveries_are_listed_newest_first_and_go_with_time,
        failures_are_counted_where_they_ended,
    }
    alerts {
        every_field_comes_back_and_what_may_change_does,
        of_one_cause_one_alert_is_open,
        how_bad_open_alerts_are_is_told_by_fingerprint,
        of_creations_at_once_one_gets_through,
        paging_through_equal_times_neither_skips_nor_repeats,
        filters_narrow_the_alerts_and_counts_add_up,
    }
    statistics {
        figures_are_those_of_the_records_whatever_is_rolled_up,
        minutes_are_read_from_the_records,
        figures_outlive_the_records,
        hours_and_old_months_go,
        a_fold_that_is_cut_off_counts_nothing_twice,
        a_batch_that_is_too_large_is_taken_in_parts,
        figures_never_waver_while_records_are_folded,
        days_of_masters_are_told,
        nothing_adds_up_to_nothing,
        figures_outlive_folds_and_drops_of_records,
        figures_hold_while_records_are_dropped,
        a_question_that_takes_too_long_is_ended,
        a_damaged_note_of_what_is_dropped_is_told,
    }
    figures {
        failures_are_counted_for_those_who_are_at_fault,
        a_call_counts_in_the_window_that_it_ended_in,
        calls_that_limits_refused_are_counted_without_those_of_a_used_up_quota,
        traffic_adds_up_by_master,
        quotas_that_are_used_are_found_the_fullest_first,
    }
    connection {
        concurrent_writers_all_get_through,
        locked_reads_lose_no_update,
        readers_see_only_what_is_committed,
        a_cancelled_caller_leaves_nothing_behind,
        migrating_again_changes_nothing,
        migrating_at_once_is_safe,
        commits_survive_reopening,
        a_closed_store_is_unavailable,
        a_database_tells_of_itself,
    }
}
