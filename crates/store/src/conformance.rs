//! The behaviour that every engine must have. The tests use only the [`Store`](super::Store) trait. An engine joins by
//! giving the list below a place in which to open its store.

mod accounts;
mod book;
mod cancelling;
pub(crate) mod channels;
mod claim;
mod clock;
pub(crate) mod enqueue;
mod event_stream;
mod events;
pub(crate) mod inbox;
mod inbox_changes;
pub(crate) mod inbox_erasure;
mod inbox_files;
mod inbox_people;
mod inbox_person;
mod inbox_session;
pub(crate) mod inbox_settings;
mod links;
pub(crate) mod message_events;
mod new_recipients;
mod orphans;
mod outcomes;
pub(crate) mod outgoing;
mod person;
mod purge;
mod reading;
mod receipts;
mod recipients;
mod refused;
mod remote;
mod schedule;
mod sessions;
mod unfinished;
mod webhook_claims;
mod webhook_fan_out;
mod webhook_log;
mod webhook_results;
pub(crate) mod webhooks;

/// The suite, once on each engine.
macro_rules! suite {
    ([$($engine:ident = $place:expr;)+] $list:tt) => {
        $(suite!(@on $engine, $place, $list);)+
    };
    (@on $engine:ident, $place:expr, { $($room:ident: $($test:ident),+;)+ }) => {
        mod $engine {
            $($(
                #[tokio::test]
                async fn $test() {
                    super::$room::$test(super::super::fixtures::Ground::on($place).await).await;
                }
            )+)+
        }
    };
}

suite! { [
    sqlite = crate::fixtures::SqliteFile::new();
    postgres = crate::fixtures::PgDatabase::new();
] {
    accounts:
        institutions_are_listed_oldest_first,
        a_default_country_is_stored,
        a_key_comes_back_as_it_was_made,
        a_key_hash_exists_once,
        a_revoked_key_keeps_its_first_time,
        a_key_ends_with_the_one_that_made_it,
        uses_of_keys_are_noted;
    channels:
        a_channel_comes_back_as_it_was_made,
        an_id_is_unique_per_institution_and_environment,
        a_new_channel_has_the_settings_of_its_call,
        a_deleted_channel_is_restored_with_its_history,
        a_channel_created_again_starts_empty,
        a_message_in_flight_at_a_deletion_settles_and_is_not_sent_again,
        a_channel_created_again_has_no_former_restrictions,
        numbers_after_a_deletion_are_not_reused,
        a_deleted_channel_of_another_type_keeps_its_id,
        a_channel_moves_only_from_the_expected_state,
        the_first_connection_is_remembered,
        deleting_twice_keeps_the_first_time,
        pages_of_channels_hold_only_the_owners,
        a_restriction_outlasts_a_pause_and_a_lost_connection,
        the_later_end_of_a_restriction_stays,
        the_account_of_a_number_is_remembered,
        an_unconfirmed_message_casts_doubt_on_its_account;
    events:
        every_move_of_a_channel_is_recorded,
        a_pause_by_the_network_is_recorded_with_its_outcome,
        a_page_of_events_ends_where_the_next_begins,
        a_connection_that_stays_down_is_recorded_once,
        a_state_is_known_since_it_began,
        events_go_after_a_year,
        an_event_with_complete_data_is_recorded_for_a_reader_and_erased_by_its_subject,
        a_log_decides_what_is_recorded_on_channels_of_today_and_tomorrow;
    book:
        a_conversation_is_assigned_transferred_closed_and_reopened,
        reading_a_conversation_names_what_the_network_has_to_hear,
        a_read_signal_waits_until_the_network_was_told,
        a_lost_read_signal_is_sent_again_and_an_old_one_is_dropped,
        the_contact_with_a_number_is_added_or_changed,
        a_removed_contact_leaves_its_conversation_to_the_next,
        idle_conversations_are_closed,
        conversations_of_a_deleted_channel_are_closed,
        lists_of_conversations_are_filtered_and_paged,
        a_contact_is_created_once_and_changed,
        contacts_are_searched_filtered_and_paged_by_name;
    inbox:
        a_message_is_stored_with_its_contact_and_its_conversation,
        without_a_reader_nothing_is_recorded,
        everything_twice_and_shuffled_is_as_one_delivery,
        a_window_is_open_for_a_day_after_a_message_of_the_person,
        a_message_from_the_future_is_from_now,
        long_texts_are_cut_and_events_stay_short,
        deep_json_of_a_person_is_stored_and_read,
        a_deleted_channel_receives_nothing_and_stays_readable,
        a_page_of_a_conversation_goes_on_in_both_orders,
        messages_of_an_author_are_found_behind_those_on_other_channels;
    inbox_people:
        a_message_by_a_number_and_by_a_hidden_id_is_one,
        people_who_chose_one_id_are_kept_apart,
        both_forms_of_a_number_are_one_contact,
        contacts_that_are_one_person_become_one,
        the_conversation_that_goes_on_has_the_attendant_of_the_closed_one,
        a_number_that_another_person_has_now_moves,
        a_changed_number_keeps_its_contact,
        ids_of_a_business_and_people_without_a_number_are_contacts,
        a_name_that_a_caller_gave_stays,
        an_echo_opens_a_conversation_and_creates_no_contact,
        a_group_is_one_chat_with_many_people,
        a_change_of_a_group_is_an_event_once,
        a_call_is_an_event_once,
        a_word_opts_out_and_a_preference_too;
    inbox_changes:
        changes_wait_for_their_message_and_old_ones_change_nothing,
        a_revoked_message_has_no_content_unless_it_is_kept,
        votes_are_counted_by_person,
        a_reaction_to_a_sent_message_is_reported,
        a_message_that_could_not_be_read_is_recovered_once,
        the_phone_reads_messages,
        only_so_many_changes_wait_for_one_message;
    inbox_files:
        files_are_kept_by_their_last_use,
        a_change_waits_for_longer_than_a_refused_message_is_kept,
        old_messages_go_with_their_files_and_empty_conversations;
    outgoing:
        a_sent_message_begins_or_continues_a_conversation,
        sending_finds_a_contact_by_either_form_and_creates_none,
        a_person_without_a_contact_has_one_conversation,
        a_closed_conversation_is_followed_by_one_with_its_window,
        conversations_follow_a_number_that_a_caller_changes,
        conversations_follow_a_number_that_the_network_changes,
        two_forms_of_a_number_in_one_batch_are_one_chat,
        messages_of_several_channels_join_together_and_once,
        an_address_that_is_no_number_finds_its_chat,
        an_answer_leaves_a_conversation_to_the_person_who_wrote_in_it,
        sent_messages_move_with_their_conversation,
        messages_of_a_crashed_process_are_left_to_join,
        senders_and_receivers_at_once_share_one_conversation,
        nothing_of_a_person_who_never_wrote_is_left,
        what_was_sent_to_a_former_number_is_erased_with_its_person;
    event_stream:
        each_owner_reads_its_own_events,
        an_event_from_the_future_keeps_no_old_ones,
        a_log_that_is_set_is_not_begun_again;
    links:
        a_link_comes_back_as_it_was_written,
        a_link_needs_the_expected_state,
        a_ban_ends_at_the_latest_time_that_was_set,
        a_linked_channel_is_up_at_once,
        a_link_can_be_replaced,
        a_maybe_delivered_message_is_not_sent_from_another_number,
        an_unknown_message_is_not_sent_again_from_another_number,
        only_unchanged_bytes_are_sealed_again,
        a_deleted_channel_has_no_link;
    message_events:
        without_a_consumer_messages_have_no_events,
        every_change_of_a_message_is_recorded,
        a_price_is_in_the_event_of_its_state,
        an_event_of_a_failure_has_its_code_alone,
        an_unchanged_message_records_no_event,
        only_the_channels_of_the_consumer_record,
        a_consumer_outlasts_a_restart,
        an_event_goes_with_its_message,
        old_events_of_messages_go_and_readers_can_tell,
        erasing_a_message_erases_its_events,
        pages_of_events_are_in_order_and_complete,
        a_cursor_ahead_of_the_store_is_refused;
    new_recipients:
        a_restricted_channel_writes_to_known_recipients,
        a_lifted_restriction_blocks_no_recipient,
        messages_for_a_recipient_that_became_known_are_sent_in_order,
        an_account_is_known_by_its_number,
        a_person_is_known_by_every_name,
        a_chat_that_we_opened_has_both_forms_and_is_counted_once,
        only_so_many_chats_are_opened_in_a_day,
        a_changed_limit_applies_at_once,
        a_chat_is_counted_once,
        an_acknowledgement_that_was_overtaken_opens_the_chat,
        waiting_messages_expire_in_time,
        many_waiting_messages_are_passed_in_parts,
        a_refused_chat_waits_like_any_new_chat,
        other_channels_ask_nobody,
        queued_messages_of_a_paused_channel_expire,
        a_deleted_channel_forgets_its_recipients,
        a_deferred_recipient_is_passed_and_keeps_its_order,
        messages_for_a_deferred_recipient_expire_in_time,
        recipients_that_were_never_asked_for_are_listed;
    inbox_session:
        only_the_session_of_a_channel_receives,
        sealed_parts_are_replaced_by_the_same_under_another_key;
    inbox_settings:
        messages_are_read_when_they_arrive_if_the_channel_wants_it,
        messages_are_read_when_they_are_answered_if_the_channel_wants_it,
        a_held_change_goes_with_content_that_is_not_kept,
        content_that_is_not_kept_goes_after_its_events_were_delivered;
    unfinished:
        many_messages_are_read_at_once_and_marked_in_steps,
        an_arrival_marks_few_of_many_unread_messages,
        the_phone_reads_many_messages,
        many_rows_of_a_merge_move_in_steps,
        messages_that_have_not_moved_yet_are_read_with_the_others,
        what_has_not_moved_yet_is_erased_with_its_person;
    sessions:
        a_session_comes_back_as_it_was_written,
        a_session_is_listed_by_prefix,
        deleted_rows_are_counted,
        a_session_ends_with_its_channel,
        a_session_reads_nothing_of_the_former_one,
        all_sessions_are_read_in_pages,
        only_an_unchanged_row_is_sealed_again;
    enqueue:
        an_accepted_message_is_stored_as_given,
        an_earlier_use_of_a_key_is_found,
        a_repeated_call_is_replayed,
        a_key_used_with_other_content_is_refused,
        keys_differ_by_institution_environment_and_route,
        a_forgotten_key_counts_as_new,
        two_calls_with_one_key_make_one_message,
        the_state_table_decides_which_messages_are_claimed,
        a_replay_asks_neither_state_nor_backlog,
        the_backlog_has_a_cap,
        a_deleted_or_unknown_channel_accepts_nothing,
        a_refused_call_does_not_use_the_key_up,
        a_refused_message_fails_alone;
    claim:
        a_channel_is_one_queue,
        each_recipient_has_a_queue,
        a_limit_holds,
        an_open_upgrade_stays_open_until_it_ends,
        an_attempt_is_counted_and_the_first_time_stays,
        a_message_waits_for_its_time,
        a_waiting_message_blocks_only_its_own_queue,
        the_send_interval_blocks_the_channel,
        the_send_interval_ends_in_time,
        a_deferred_channel_sends_to_no_recipient,
        a_deferral_never_gets_shorter,
        a_channel_can_be_held_by_itself,
        an_old_message_expires,
        many_expire_a_batch_at_a_time,
        a_channel_that_does_not_dispatch_only_lets_expire,
        a_claim_on_a_deleted_channel_cancels_what_waits,
        a_claim_reports_whether_a_message_blocks_all_others,
        an_unknown_channel_has_nothing;
    orphans:
        a_message_in_flight_is_not_claimed_twice,
        a_maybe_delivered_message_ends_as_unknown,
        an_expired_orphan_that_is_queued_again_ends_as_unknown,
        a_claim_of_another_process_counts_until_it_expires,
        an_expired_claim_is_queued_again,
        an_expired_claim_is_unknown_if_a_resend_would_double,
        messages_of_a_crashed_owner_are_queued_again,
        messages_of_a_crashed_owner_are_unknown_if_a_resend_would_double,
        a_message_that_was_never_sent_is_queued_again_in_any_case,
        orphans_behind_the_limit_are_dealt_with_too,
        orphans_of_a_paused_channel_are_dealt_with_too,
        an_orphan_waits_for_its_time_like_any_other,
        an_orphan_that_is_too_old_ends;
    outcomes:
        every_settlement_moves_only_what_is_sending,
        statuses_and_states_that_are_reached_are_reported,
        a_settlement_leaves_its_traces,
        several_outcomes_are_recorded_together,
        a_lost_connection_is_no_failure,
        the_rendition_that_was_sent_is_kept;
    receipts:
        a_receipt_that_overtook_the_outcome_counts,
        a_receipt_finds_a_message_that_waits_for_a_retry,
        every_receipt_makes_only_legal_moves,
        a_receipt_for_another_channel_means_nothing,
        only_receipts_of_the_recipient_count,
        receipts_of_a_hidden_id_count_from_the_person_who_has_it,
        no_receipt_is_older_than_its_message,
        repeated_and_late_receipts_change_nothing;
    cancelling:
        only_a_queued_message_can_be_cancelled,
        cancelling_a_channel_begins_with_the_oldest,
        open_channels_are_those_with_work;
    reading:
        a_message_is_read_through_its_channel_only,
        a_message_is_found_by_its_network_id_in_every_state,
        pages_are_newest_first_and_complete,
        waiting_and_finished_messages_are_one_list,
        filters_narrow_a_page,
        a_foreign_cursor_is_no_cursor,
        a_page_scans_a_bounded_part;
    purge:
        old_finished_messages_go,
        open_messages_stay_however_old,
        a_message_to_be_sent_again_is_never_purged,
        an_expired_resend_is_purged,
        a_purge_goes_in_batches,
        used_keys_are_forgotten,
        accounts_of_numbers_are_forgotten_in_time,
        a_restart_keeps_everything;
    clock:
        messages_and_keys_from_the_future_keep_no_old_ones,
        early_receipts_from_the_future_keep_no_old_ones,
        events_from_the_future_keep_no_old_ones,
        received_messages_from_the_future_keep_no_old_ones,
        changes_from_the_future_keep_no_old_ones,
        deliveries_from_the_future_keep_no_old_ones;
    refused:
        a_refused_arrival_is_kept_until_it_is_stored,
        so_many_refused_arrivals_of_a_channel_are_kept,
        refused_arrivals_of_a_person_are_erased;
    inbox_person:
        who_wrote_is_found_by_every_name,
        who_wrote_is_erased_and_taken_out_of_what_others_wrote,
        a_person_whose_contact_was_removed_is_erased_all_the_same,
        a_person_of_one_environment_is_no_person_of_the_other;
    person:
        a_person_is_found_by_number_and_account,
        all_data_of_a_person_is_returned,
        only_one_institutions_person_is_shown_and_erased,
        a_person_of_one_owner_is_found_by_every_index,
        queued_messages_are_cancelled_and_erased,
        queued_messages_with_an_unknown_outcome_are_erased_too,
        every_finished_message_goes_and_others_stay,
        an_erased_key_is_as_new,
        contacts_are_erased_on_every_channel,
        settling_an_erased_message_does_no_harm,
        receipts_of_what_is_erased_go_too,
        a_page_of_a_person_is_bounded;
    recipients:
        a_burst_then_one_in_a_time,
        a_deferred_recipient_blocks_no_other,
        an_unknown_message_is_queued_again_in_time,
        many_unknown_messages_wait_for_their_time,
        an_unknown_message_is_sent_again_once,
        an_unknown_message_that_is_too_old_stays,
        a_receipt_settles_an_unknown_message,
        a_message_queued_again_waits_for_the_one_in_flight,
        orphans_of_a_crashed_owner_are_sent_again_by_policy,
        a_pause_by_the_network_keeps_the_order,
        only_a_connected_channel_is_paused_by_the_network,
        settings_are_kept,
        a_revoked_policy_sends_nothing_again,
        a_channel_created_again_sends_no_former_messages,
        a_channel_that_does_not_send_queues_nothing_again,
        a_refusal_of_a_former_link_pauses_nothing,
        a_message_that_was_sent_again_does_not_fail;
    schedule:
        a_scheduled_message_waits_for_its_time,
        scheduled_messages_are_queued_in_the_order_of_their_times,
        a_scheduled_message_counts_and_can_be_cancelled,
        a_scheduled_message_is_queued_behind_its_recipients_others,
        messages_scheduled_before_a_deletion_are_cancelled,
        a_scheduled_message_is_found_shown_and_erased,
        events_of_a_scheduled_message_go_with_it,
        many_that_are_due_are_queued_some_at_a_time,
        a_channel_with_many_due_messages_delays_no_other,
        a_list_goes_on_where_it_was_when_a_message_is_queued,
        a_schedule_outlasts_a_restart;
    remote:
        our_own_id_finds_a_message_in_any_state,
        a_receipt_for_a_message_that_waits_for_a_retry_counts,
        anothers_id_means_nothing,
        receipts_that_come_before_the_answer_wait_for_it,
        an_early_receipt_is_kept_for_a_while_only,
        early_receipts_are_bounded,
        only_the_last_sending_can_fail,
        an_account_is_remembered_by_channel,
        a_receipt_that_the_store_refuses_delays_no_other;
    webhook_fan_out:
        each_accepted_event_has_one_delivery,
        waiting_deliveries_are_counted,
        a_webhook_receives_only_events_behind_its_beginning,
        a_long_step_of_the_fan_out_ends_early,
        one_node_leads_the_fan_out,
        events_that_webhooks_wait_for_stay_until_the_fan_out_has_read_them;
    webhook_claims:
        events_of_a_message_wait_for_one_another,
        events_of_a_conversation_wait_for_one_another,
        a_changed_order_keeps_messages_in_order,
        a_webhook_has_eight_deliveries_in_flight,
        a_lost_lease_is_claimed_again_and_its_result_counts_no_more,
        what_a_node_cannot_send_is_left_to_others,
        a_delivery_whose_leases_are_all_lost_ends,
        a_webhook_receives_only_what_its_scopes_permit_now,
        failing_webhooks_take_no_slots_of_others,
        webhooks_are_served_in_turn;
    webhook_results:
        a_failed_delivery_is_tried_again_and_becomes_a_dead_letter,
        a_webhook_that_only_fails_is_disabled,
        a_webhook_whose_address_is_gone_is_disabled_at_once,
        a_webhook_opens_again_when_its_last_attempt_ends,
        an_address_that_is_gone_counts_beside_a_success;
    webhook_log:
        a_dead_letter_is_sent_again,
        many_deliveries_are_sent_again_in_order,
        a_log_has_pages_and_filters,
        deliveries_of_a_deleted_webhook_are_deleted,
        old_deliveries_are_deleted,
        erasing_an_event_erases_its_deliveries,
        a_delivery_without_its_event_is_a_dead_letter;
    webhooks:
        a_webhook_comes_back_as_it_was_written,
        an_institution_has_fifty_webhooks_in_each_environment,
        what_webhooks_want_is_recorded_while_they_are_active,
        only_unchanged_secrets_are_sealed_again;
} }

// A transaction pooler may be between Recado and the database. One test of each kind of operation runs through one
// here; RECADO_TEST_POOLER runs the whole suite through it.
suite! { [
    pooled = crate::fixtures::PgDatabase::behind_a_pooler();
] {
    accounts: uses_of_keys_are_noted;
    channels: a_deleted_channel_is_restored_with_its_history;
    links: a_link_can_be_replaced;
    sessions: a_session_comes_back_as_it_was_written;
    enqueue: two_calls_with_one_key_make_one_message;
    orphans: messages_of_a_crashed_owner_are_queued_again;
    outcomes: several_outcomes_are_recorded_together;
    message_events: every_change_of_a_message_is_recorded;
    reading: filters_narrow_a_page;
    recipients: a_burst_then_one_in_a_time;
    remote: receipts_that_come_before_the_answer_wait_for_it;
    webhook_results: a_failed_delivery_is_tried_again_and_becomes_a_dead_letter;
} }
