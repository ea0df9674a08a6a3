//! The control plane's HTTP surface, over SQLite with in-process state and over PostgreSQL with Redis.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a broken assumption fails its test")]

mod access;
mod alerts;
mod conditional;
mod documentation;
mod edge;
mod flushes;
mod jobs;
mod keys;
mod lists;
mod log_bodies;
mod log_lists;
mod metrics;
mod models;
mod ops;
mod providers;
mod realtime;
mod records;
mod routing;
mod statistics;
mod support;
mod tenants;
mod validation;
mod webhooks;

/// Runs every test over both pairs of backends; the module in its name says which.
macro_rules! on_both_backends {
    ($($subject:ident { $($test:ident,)+ })+) => {
        mod embedded { $( mod $subject { $(
            #[tokio::test]
            async fn $test() {
                crate::$subject::$test(crate::support::TestApp::embedded().await).await;
            }
        )+ } )+ }

        mod scaled_out { $( mod $subject { $(
            #[tokio::test]
            async fn $test() {
                crate::$subject::$test(crate::support::TestApp::scaled_out().await).await;
            }
        )+ } )+ }
    };
}

on_both_backends! {
    access {
        each_route_answers_those_who_may_call_it_and_nobody_else,
        sessions_stand_for_the_secret_that_bought_them,
        failed_sign_ins_are_limited_by_address,
        metrics_open_to_their_token_and_to_the_admin,
    }
    alerts {
        alerts_live_from_active_to_their_end,
        alerts_are_listed_by_cursor_and_counted,
        faults_of_alerts_are_told_at_their_places,
        thresholds_are_a_flat_object_of_whole_numbers,
        alerts_of_gateways_are_taken_one_by_one,
    }
    conditional {
        every_write_route_keeps_the_conventions,
        what_a_route_does_not_take_is_refused,
        a_deletion_takes_no_body,
        of_changes_at_once_from_one_reading_one_is_made,
        tags_change_with_the_record_and_not_with_its_use,
        a_dry_run_of_the_rebuild_tells_the_drift_and_leaves_it,
        a_repeated_creation_creates_nothing,
        an_answer_too_large_to_be_kept_is_refused,
        names_of_requests_are_their_callers_own,
        names_of_requests_end_after_a_day,
        creations_at_once_under_one_name_make_one_record,
    }
    documentation {
        examples_of_requests_are_taken_as_they_stand,
        every_operation_and_property_is_described,
        the_page_comes_whole_from_this_process,
    }
    edge {
        request_ids_come_back,
        every_error_is_a_problem,
        bodies_are_limited_by_route,
        an_outage_is_told_apart_from_a_fault,
    }
    flushes {
        attempts_add_to_api_keys_and_their_groups_once,
        use_of_keys_counts_once_and_fills_quotas,
        faults_of_a_batch_are_told_all_at_once,
        api_keys_are_summed_up_ever_and_over_a_time,
    }
    log_bodies {
        a_body_is_read_by_admins_while_it_is_there,
    }
    jobs {
        jobs_are_listed_and_run_on_request,
        a_job_that_runs_elsewhere_is_a_conflict,
    }
    keys {
        limits_and_budgets_are_kept_exactly,
        numbers_out_of_range_name_the_range,
        quotas_say_when_they_start_anew,
        a_rotated_key_works_under_both_tokens_for_a_while,
        access_is_read_and_changed_by_itself,
    }
    lists {
        pages_search_sort_and_filters_find_what_they_should,
        logs_and_audit_are_read_through_cursors,
    }
    log_lists {
        log_records_are_found_by_whatever_they_have,
        hostile_lists_are_answered_or_refused_by_field,
        masters_find_their_own_log_records_alone,
        old_log_records_are_deleted_in_the_background,
    }
    metrics {
        requests_are_counted_by_route_and_failed_sign_ins_by_door,
        ingestion_is_counted_by_outcome,
        publication_is_looked_at_when_metrics_are_read,
    }
    models {
        models_live_from_create_to_delete,
        prices_are_taken_by_their_text,
        faults_of_what_a_model_takes_are_told_at_their_places,
        the_catalogue_is_listed_renewed_and_reset,
        faults_of_a_catalogue_are_told_at_their_places,
        features_are_a_flat_object,
    }
    ops {
        process_routes_tell_what_runs,
        gateways_hand_in_logs_once_and_report_themselves,
        publication_is_told_and_can_be_repeated,
    }
    providers {
        batches_tell_each_line_and_no_secret,
        statuses_are_set_together,
        a_vendor_is_set_up_in_one_call,
        an_api_key_is_tested_with_a_real_call,
        reports_of_gateways_show_at_the_api_key,
    }
    realtime {
        figures_are_summed_over_gateways_and_shown_to_their_own,
        events_follow_the_figures_until_the_process_drains,
        events_end_with_what_let_them_begin,
        streams_are_bounded,
    }
    routing {
        a_decision_is_explained_candidate_by_candidate,
    }
    records {
        masters_live_from_create_to_delete,
        child_keys_live_from_issue_to_delete,
        namespaces_live_from_create_to_delete,
        the_routing_records_live_from_create_to_delete,
        secrets_are_shown_once_or_never,
    }
    statistics {
        calls_are_added_up_by_what_is_asked,
        what_would_read_too_much_is_refused,
        masters_add_their_own_calls_up,
        the_dashboard_tells_of_days,
    }
    tenants {
        masters_see_nothing_of_each_other,
        no_route_of_masters_reaches_what_another_has,
    }
    webhooks {
        the_webhook_is_set_and_its_secret_is_shown_once,
        faults_of_the_webhook_are_told_at_their_places,
        the_webhook_leads_nowhere_inside,
        a_redirect_to_the_inside_is_not_followed,
        deliveries_are_told_newest_first,
    }
    validation {
        faults_are_told_all_at_once_with_pointers,
        absent_null_and_a_value_differ_in_a_change,
        what_does_not_exist_is_missing,
        refused_writes_leave_nothing_behind,
        a_nul_is_refused_wherever_it_comes,
        times_that_cannot_be_answered_with_are_refused,
    }
}
