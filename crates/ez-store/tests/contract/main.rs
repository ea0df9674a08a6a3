//! What the store promises, written once and run on both databases.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "tasks here stand for processes, and are awaited")]

mod configuration;
mod conflicts;
mod connection;
mod fixture;
mod journals;
mod lists;
mod logs;
mod usage;

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
