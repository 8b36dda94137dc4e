//! What every profile store must do, whatever database is below: one function for each behaviour, run for each backend.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]
#![expect(clippy::too_many_lines, reason = "a model is one match over its commands")]

mod fixture;
mod log;
mod model;
mod reads;
mod session;

/// Runs every behaviour against the fixtures that `$fixture` makes.
macro_rules! conformance {
    ($backend:ident, $fixture:path, $($module:ident: $($name:ident)*;)*) => {
        mod $backend {
            $($(#[test]
            fn $name() {
                crate::$module::$name(&$fixture());
            })*)*

            #[test]
            fn any_sequence_of_commands_ends_where_the_model_ends() {
                crate::model::agrees_with_the_model(&$fixture);
            }
        }
    };
}

conformance! {
    sqlite, crate::fixture::sqlite,
    session:
        what_is_committed_is_loaded_also_after_reopening
        nothing_is_seen_before_the_commit
        a_rollback_leaves_nothing
        a_dropped_session_drops_its_transaction
        an_append_is_there_whole_or_not_at_all
        a_failing_append_does_not_sink_its_transaction
        a_failed_append_moves_no_registry
        a_session_goes_on_after_a_rollback
        changes_after_gives_the_newer_ones_in_order
        changes_after_sees_what_was_committed_before_the_lock
        a_commit_elsewhere_is_noticed
        a_commit_elsewhere_is_noticed_again_after_a_rollback
        writers_take_turns_and_lose_nothing
        a_writer_that_waits_too_long_is_told_that_the_database_is_busy;
    reads:
        an_empty_store_holds_nothing
        a_registry_without_profiles_is_loaded
        documents_come_back_as_they_were
        names_of_a_registry_come_back_as_they_were
        deleted_profiles_keep_their_last_version
        a_new_default_changes_the_registry_and_not_the_profile
        a_store_reads_what_another_one_committed
        a_store_that_works_answers_a_ping;
    log:
        history_is_newest_first
        history_is_paged
        history_is_of_one_profile_of_one_registry
        history_goes_on_across_delete_and_create
        pages_of_history_lose_no_change_of_the_same_version
        a_long_log_is_read_as_it_was_written
        audit_is_oldest_first_over_all_registries
        audit_is_paged_by_id
        a_change_comes_back_as_it_was_written;
}
