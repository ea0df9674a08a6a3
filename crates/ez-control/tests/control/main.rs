//! The control plane's rules, once on SQLite with in-process state and once on PostgreSQL with Redis.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it stands")]

mod access;
mod alerts;
mod api_key_batches;
mod bans;
mod deletion;
mod detecting;
mod exporting;
mod features;
mod flushes;
mod importing;
mod ingesting;
mod large_changes;
mod legacy;
mod limits;
mod log_bodies;
mod log_cleaning;
mod log_records;
mod models;
mod outages;
mod presets;
mod publishing;
mod quotas;
mod recompiling;
mod reconciling;
mod resolving;
mod rotation;
mod rules;
mod scheduling;
mod signing_in;
mod starting;
mod statistics;
mod support;
mod synthetic_day;
mod test_calls;
mod together;
mod used;
mod webhooks;

/// Runs each case on every pair of backends.
macro_rules! on_all_backends {
    ($($module:ident :: $case:ident),+ $(,)?) => {
        mod sqlite_and_in_process {
            $(
                #[tokio::test]
                async fn $case() {
                    crate::$module::$case(crate::support::Plane::embedded().await).await;
                }
            )+
        }

        mod postgres_and_redis {
            $(
                #[tokio::test]
                async fn $case() {
                    crate::$module::$case(crate::support::Plane::scaled_out().await).await;
                }
            )+
        }
    };
}

on_all_backends! {
    log_cleaning::log_records_go_by_their_age,
    log_cleaning::the_oldest_log_records_beyond_the_maximum_go,
    log_cleaning::what_is_not_rolled_up_is_kept_until_it_is,
    log_cleaning::cleaners_at_once_drop_each_record_once,
    log_cleaning::a_deletion_is_carried_out_by_the_cleaner,
    log_cleaning::request_bodies_go_with_the_time_of_their_records,
    log_cleaning::what_may_come_again_stays_for_an_hour,
    log_cleaning::roll_ups_go_by_their_months,
    log_cleaning::roll_ups_of_hours_go_before_the_others,
    log_cleaning::an_empty_log_is_clean,
    ingesting::those_who_come_at_once_are_stored_together_and_hear_of_their_own,
    ingesting::a_full_queue_takes_nothing_and_loses_nothing,
    ingesting::what_is_left_by_one_who_went_away_is_stored,
    ingesting::bad_records_of_one_gateway_hold_up_no_other,
    ingesting::what_waits_is_stored_before_the_end,
    ingesting::a_database_that_stands_still_holds_up_no_end,
    ingesting::records_of_absurd_times_are_rejected,
    ingesting::a_clock_that_is_behind_loses_no_records,
    alerts::a_cause_that_lasts_keeps_its_alert_up_to_date,
    alerts::a_cause_comes_back_once_it_was_not_seen_for_five_minutes,
    alerts::replicas_that_see_the_same_at_once_make_one_alert,
    alerts::batches_of_the_same_causes_at_once_all_get_through,
    alerts::an_alert_that_cannot_be_read_keeps_no_other_from_being_raised,
    alerts::thresholds_that_were_damaged_can_be_set_again,
    alerts::an_alert_that_is_closed_moves_no_more,
    alerts::what_people_do_at_once_about_one_alert_happens_once,
    alerts::keys_that_expire_have_an_alert_the_first_hundred_of_them,
    detecting::each_rule_finds_what_was_planted_and_nothing_else,
    detecting::calls_count_when_they_end_however_long_they_took,
    detecting::a_run_that_is_late_misses_no_minute,
    detecting::where_looking_stopped_is_put_right_after_a_wrong_clock,
    detecting::a_day_is_judged_with_its_calls_that_ended_after_midnight,
    detecting::quotas_are_found_once_and_rise,
    detecting::replicas_detect_at_once_and_raise_once,
    detecting::a_figure_that_cannot_be_read_stops_no_other_rule,
    detecting::thresholds_that_were_damaged_are_the_defaults,
    used::gateways_learn_what_was_counted_of_a_quota,
    used::a_key_that_used_its_quota_up_is_marked_exhausted_and_comes_back,
    used::gateways_learn_what_a_master_spent,
    used::use_that_is_not_published_yet_is_no_drift,
    used::two_processes_publish_use_once,
    synthetic_day::what_is_planted_raises_one_alert_and_figures_are_those_of_the_records,
    statistics::what_api_keys_did_is_told_between_any_times,
    statistics::the_dashboards_days_end_with_today,
    statistics::a_master_adds_up_its_own_calls_alone,
    statistics::what_takes_too_long_is_told_with_what_to_ask_instead,
    together::a_change_its_audit_entry_and_its_outbox_entry_come_together_or_not_at_all,
    together::a_dry_run_and_an_unmet_expectation_leave_nothing,
    together::secrets_are_in_no_audit_entry_and_no_debug_text,
    starting::the_first_start_makes_an_admin_token_and_shows_it_once,
    starting::processes_that_start_at_once_agree,
    starting::a_configured_admin_token_is_the_one_that_counts,
    starting::an_empty_or_unusable_secret_stops_the_start,
    rules::what_is_left_out_takes_its_default,
    rules::every_fault_of_a_request_is_told_at_once,
    rules::a_base_url_is_brought_into_one_form,
    rules::names_are_unique,
    rules::a_key_takes_its_masters_access_and_never_more,
    rules::a_master_is_issued_no_more_keys_than_it_may_have,
    rules::a_change_changes_what_it_names_and_null_clears,
    rules::a_master_keeps_the_namespaces_that_its_keys_have,
    rules::a_master_reaches_its_own_keys_alone,
    rules::endless_lists_of_namespaces_are_refused_unread,
    rules::control_characters_are_refused_before_any_look_up,
    rules::a_key_may_keep_the_group_that_its_master_had,
    rules::a_key_ends_in_a_year_that_can_be_written,
    deletion::what_is_referred_to_goes_with_what_refers_or_stays,
    deletion::a_master_goes_at_once_with_all_its_keys,
    deletion::a_refusal_reads_no_more_keys_than_it_names,
    deletion::a_namespace_that_someone_may_use_stays,
    deletion::a_group_or_namespace_goes_at_once_with_all_that_is_bound,
    api_key_batches::a_batch_creates_what_is_new_and_tells_what_is_not,
    api_key_batches::a_faulty_batch_creates_nothing,
    api_key_batches::batches_at_once_bring_no_secret_twice,
    api_key_batches::a_status_is_set_for_all_or_none,
    bans::a_ban_switches_an_api_key_off_everywhere_and_once,
    bans::a_ban_is_about_the_api_key_as_it_was,
    bans::bans_end_with_their_time_and_only_those,
    bans::replicas_end_each_ban_once,
    bans::gateways_that_report_at_once_ban_once,
    bans::cooldowns_and_breakers_are_shared_and_pass,
    bans::a_bad_report_holds_up_no_other,
    presets::a_name_and_a_secret_are_enough,
    presets::on_request_every_model_is_bound_and_served,
    presets::a_faulty_preset_tells_all_and_leaves_nothing,
    recompiling::each_selector_follows_the_models_of_its_group,
    recompiling::every_part_of_a_group_reaches_what_is_made_of_it,
    resolving::the_verdict_is_what_the_snapshot_makes_of_it,
    resolving::candidates_come_in_the_order_of_attempts,
    resolving::references_lead_where_the_key_may_go,
    resolving::dead_keys_are_refused_as_gateways_do,
    test_calls::each_type_is_asked_in_its_own_protocol,
    test_calls::a_service_account_signs_in_first,
    test_calls::a_refusal_is_told_without_what_it_gives_away,
    test_calls::what_cannot_be_called_is_refused_before,
    models::a_model_starts_from_what_the_catalogue_knows_and_changes_as_it_is_told,
    models::every_fault_of_a_model_is_told_at_once,
    models::what_is_said_of_what_a_model_takes_reaches_the_snapshot,
    models::an_entry_wins_over_the_catalogue_and_reaches_every_model_that_asks_for_it,
    models::a_model_follows_what_can_serve_it,
    models::a_model_follows_its_api_keys_and_its_namespace,
    models::the_account_names_the_catalogue_that_the_models_were_made_with,
    models::a_write_asks_for_the_catalogue_within_its_own_unit_of_work,
    models::a_renewed_catalogue_reaches_all_models_and_all_control_planes,
    models::models_edited_by_hand_are_repaired_with_their_account,
    features::flags_are_off_until_set_and_reach_the_snapshot,
    features::unknown_flags_and_other_values_are_refused,
    features::flags_set_at_once_are_all_kept,
    publishing::what_a_gateway_needs_is_published,
    publishing::the_newest_state_wins_and_deletion_removes,
    publishing::revoking_and_suspending_reach_the_snapshot,
    publishing::rotating_a_master_key_keeps_the_keys_that_were_alive,
    publishing::a_change_recompiles_the_bindings_that_it_touches,
    publishing::an_api_key_that_leaves_is_missed_where_it_was,
    publishing::a_binding_that_moves_leaves_its_old_place,
    publishing::a_batch_limit_leaves_nothing_behind,
    large_changes::a_change_too_large_for_one_publication_is_published_in_parts,
    publishing::a_commit_wakes_the_publisher_and_shutdown_flushes,
    publishing::two_publishers_publish_once,
    publishing::two_publishers_never_publish_an_older_state_over_a_newer_one,
    reconciling::drift_is_repaired_and_reported,
    reconciling::where_nothing_differs_nobody_is_kept_from_publishing,
    reconciling::changes_under_way_are_no_drift,
    reconciling::the_first_publication_is_a_whole_snapshot_even_an_empty_one,
    signing_in::each_credential_is_known_for_what_it_is,
    signing_in::a_session_ends_with_its_hour_its_epoch_and_its_master,
    reconciling::a_record_that_cannot_be_read_is_left_out_and_counted,
    signing_in::a_session_of_an_admin_ends_with_its_token,
    signing_in::failures_at_one_door_do_not_count_at_the_other,
    signing_in::ten_failures_shut_an_address_out_for_a_minute,
    signing_in::a_clock_that_is_set_back_shuts_nobody_out_for_longer,
    signing_in::gateways_need_the_internal_token,
    scheduling::a_run_that_was_asked_for_is_waited_for_and_never_overlaps,
    scheduling::what_a_job_did_last_is_known_everywhere,
    scheduling::the_jobs_of_the_product_run,
    scheduling::what_is_due_is_done_by_itself,
    log_records::ingestion_is_idempotent_and_rejects_one_by_one,
    log_records::what_is_told_of_a_rejected_record_is_bounded,
    log_records::a_record_that_the_database_refuses_holds_up_no_other,
    log_records::a_database_that_is_wrong_itself_rejects_no_record,
    log_records::pages_follow_each_other_within_reach,
    log_records::audit_pages_follow_each_other,
    log_records::sync_status_tells_of_outbox_and_gateways,
    flushes::flushes_at_once_add_up_and_wait_for_nobody_for_ever,
    flushes::flushes_and_imports_of_the_same_groups_wait_for_each_other,
    flushes::a_batch_is_known_for_seven_days,
    log_bodies::bodies_are_kept_while_the_flag_is_on,
    log_bodies::a_control_plane_cuts_bodies_to_its_own_bound,
    log_bodies::who_read_a_body_stands_in_the_audit_and_what_it_said_does_not,
    limits::limits_are_kept_published_and_cleared,
    limits::limits_that_cannot_be_kept_are_refused,
    quotas::a_quota_above_what_is_used_revives_and_one_below_exhausts,
    quotas::an_expired_key_comes_back_with_a_later_end,
    quotas::a_quota_that_is_due_starts_anew,
    quotas::a_quota_that_starts_anew_keeps_what_was_used_since,
    quotas::jobs_at_two_places_settle_each_key_once,
    quotas::a_damaged_key_does_not_keep_others_from_their_due,
    rotation::old_and_new_token_work_until_the_overlap_ends,
    rotation::rotating_again_ends_the_oldest_token_at_once,
    rotation::what_cannot_be_rotated_is_refused,
    access::keys_follow_their_master_where_they_are_told_to,
    access::ten_thousand_keys_follow_in_one_change,
    legacy::a_key_of_an_older_system_is_found_once_by_its_hash,
    legacy::a_look_up_tries_a_hundred_rows_and_the_next_one_goes_on,
    legacy::looking_for_hashes_is_limited_by_address_and_in_all,
    legacy::where_every_master_has_a_digest_no_hash_is_tried,
    importing::channels_become_provider_groups_and_api_keys,
    importing::tenants_keep_their_access,
    importing::new_masters_get_a_key_that_works,
    importing::a_binding_reaches_every_group_of_its_label,
    importing::bindings_are_left_out_unless_asked_for,
    importing::every_fault_is_named_with_its_path_and_nothing_is_written,
    importing::faults_of_an_export_are_named_too,
    importing::a_fault_that_the_database_shows_undoes_all,
    importing::what_is_no_document_is_refused,
    importing::importing_twice_changes_nothing,
    importing::what_is_there_stays_unless_it_is_to_be_overwritten,
    importing::a_dry_run_tells_the_same_and_changes_nothing,
    importing::a_master_that_stands_here_gets_what_its_new_keys_need,
    importing::more_keys_than_a_master_may_have_are_kept_and_told,
    importing::a_key_may_belong_to_a_suspended_master,
    importing::a_key_that_is_over_or_used_up_comes_as_such,
    importing::an_api_key_comes_once_and_oauth_types_wait,
    importing::a_token_of_another_master_stays_where_it_is,
    importing::another_secret_key_is_refused,
    importing::ten_thousand_keys_come_in_one_go,
    exporting::an_export_makes_the_same_system_elsewhere,
    exporting::an_export_without_secrets_waits_for_them,
    exporting::a_revoked_key_stays_dead_beside_a_master_that_stands_here,
    exporting::models_and_flags_come_along,
    exporting::a_secret_that_comes_later_fills_the_api_key_that_waits,
    importing::an_overwrite_leaves_alone_what_the_document_does_not_have,
    importing::counts_at_the_end_of_what_can_be_kept_come_twice,
    exporting::a_renewed_catalogue_is_told_to_be_missing,
    exporting::a_secret_that_cannot_be_opened_is_not_left_out_silently,
    webhooks::it_is_off_until_it_is_set_and_its_secret_is_shown_once,
    webhooks::every_fault_of_a_change_is_told_at_once,
    webhooks::failing_calls_are_told_once_a_cooldown,
    webhooks::what_is_not_taken_is_sent_again_under_its_id,
    webhooks::who_wants_no_more_or_never_answers_well_is_left_alone,
    webhooks::each_attempt_is_made_by_one_process_and_a_lost_one_again,
    webhooks::a_damaged_setting_stops_nothing_and_is_set_again,
    webhooks::alerts_are_told_by_their_severity,
    webhooks::what_waits_is_not_sent_once_it_is_switched_off,
    webhooks::deliveries_do_not_pile_up,
    webhooks::a_test_event_tells_what_the_receiver_says,
    webhooks::an_address_is_checked_when_it_is_set_and_when_it_is_used,
}
