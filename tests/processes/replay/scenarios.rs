//! The scenarios.

use super::Scenario;
use super::rules::*;

#[tokio::test]
async fn a_turn_its_timeline_and_everything_the_debug_api_shows() {
    Scenario::new("chat-one-turn", &[ALWAYS, TURNS, SEEDED, DEBUG, HELD]).replay().await;
}

#[tokio::test]
async fn a_tool_call_goes_out_and_its_result_comes_back() {
    Scenario::new("tool-call", &[ALWAYS, TURNS, SEEDED, ORDERED]).replay().await;
}

#[tokio::test]
async fn a_mode_switch_lasts_and_is_seen() {
    Scenario::new("agent-mode", &[ALWAYS, TURNS, SEEDED, PROJECTED, MODE_IDS, PREPARED, MODES])
        .replay()
        .await;
}

#[tokio::test]
async fn prompts_wait_in_order_and_replays_answer_in_each_state() {
    Scenario {
        busy: 2..7,
        ..Scenario::new("queue-and-replay", &[ALWAYS, TURNS, SEEDED, OTHER_PROMPT])
    }
    .replay()
    .await;
}

#[tokio::test]
async fn switch_during_run_each_turn_runs_under_the_profile_it_was_submitted_with() {
    Scenario {
        busy: 3..6,
        ..Scenario::new("switch-during-run", &[ALWAYS, TURNS, SEEDED, OWN_PROFILE, PREPARED, HELD])
    }
    .replay()
    .await;
}

#[tokio::test]
async fn a_stepped_run_goes_on_at_each_pause() {
    Scenario { busy: 2..6, ..Scenario::new("step-mode", &[ALWAYS, PROJECTED, PAUSE]) }
        .replay()
        .await;
}

#[tokio::test]
async fn a_query_and_a_failing_query_of_the_sql_tool() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data.db");
    let database = rusqlite::Connection::open(&file).unwrap();
    database
        .execute_batch(
            "CREATE TABLE t(id integer primary key, name text, at timestamp);
             INSERT INTO t VALUES (1, 'ann', '2026-01-02 03:04:05'), (2, NULL, NULL), (3, 'cy', NULL);
             CREATE TABLE _prompts(prompt text);
             INSERT INTO _prompts VALUES ('Use table t.'), (' ');",
        )
        .unwrap();
    drop(database);
    let args = ["--sql-tool-db", file.to_str().unwrap()];
    let scenario = Scenario::new("sql-tool", &[ALWAYS, TURNS, SEEDED, ORDERED, ANY_ORDER, PRINTED]);
    Scenario { args: &args, ..scenario }.replay().await;
}

#[tokio::test]
async fn four_calls_at_once_each_with_its_result() {
    Scenario::new("tool-calls-parallel", &[ALWAYS, TURNS, SEEDED, ORDERED, ANY_ORDER, CALLS])
        .replay()
        .await;
}

#[tokio::test]
async fn a_model_that_never_stops_asking_for_tools_is_stopped() {
    Scenario::new("tool-loop-limit", &[ALWAYS, TURNS, SEEDED, ORDERED, FAILED]).replay().await;
}

#[tokio::test]
async fn a_reasoning_model_thinks_calls_a_tool_and_answers() {
    Scenario::new("responses-reasoning-tool", &[ALWAYS, TURNS, SEEDED, ORDERED, FAILED, RESPONSES])
        .replay()
        .await;
}

#[tokio::test]
async fn no_database_flags_are_needed() {
    Scenario::new("in-memory-stores", &[ALWAYS, DURABLE]).replay().await;
}

#[tokio::test]
async fn which_profile_a_prompt_runs_under() {
    Scenario::new("profile-selection", &[ALWAYS, TURNS, PREPARED, HELD, SELECTION]).replay().await;
}

#[tokio::test]
async fn provider_401() {
    Scenario::new("provider-401", &[ALWAYS, TURNS, SEEDED, FAILED]).replay().await;
}

#[tokio::test]
async fn provider_429() {
    Scenario {
        tries: 3,
        ..Scenario::new("provider-429", &[ALWAYS, TURNS, SEEDED, FAILED, RETRIED])
    }
    .replay()
    .await;
}

#[tokio::test]
async fn provider_500() {
    Scenario::new("provider-500", &[ALWAYS, TURNS, SEEDED, FAILED]).replay().await;
}

#[tokio::test]
async fn provider_cut() {
    Scenario::new("provider-cut", &[ALWAYS, TURNS, SEEDED, FAILED]).replay().await;
}

#[tokio::test]
async fn provider_error_in_stream() {
    Scenario::new("provider-error-in-stream", &[ALWAYS, TURNS, SEEDED, FAILED]).replay().await;
}

#[tokio::test]
async fn provider_filter() {
    Scenario::new("provider-filter", &[ALWAYS, TURNS, SEEDED, WARNED]).replay().await;
}

#[tokio::test]
async fn provider_length() {
    Scenario::new("provider-length", &[ALWAYS, TURNS, SEEDED, WARNED]).replay().await;
}

#[tokio::test]
async fn provider_no_finish() {
    Scenario::new("provider-no-finish", &[ALWAYS, TURNS, SEEDED, FAILED]).replay().await;
}

#[tokio::test]
async fn provider_reasoning_content() {
    Scenario::new("provider-reasoning-content", &[ALWAYS, TURNS, SEEDED, THOUGHT]).replay().await;
}

#[tokio::test]
async fn claude_cut() {
    Scenario::new("claude-cut", &[ALWAYS, STARTS, ALIVE]).replay().await;
}

#[tokio::test]
async fn claude_error_in_stream() {
    Scenario::new(
        "claude-error-in-stream",
        &[ALWAYS, STARTS, TURNS, SEEDED, CLAUDE, CACHE_COUNTS, FAILED],
    )
    .replay()
    .await;
}

#[tokio::test]
async fn claude_max_tokens() {
    Scenario::new(
        "claude-max-tokens",
        &[ALWAYS, STARTS, TURNS, SEEDED, CLAUDE, CACHE_COUNTS, WARNED],
    )
    .replay()
    .await;
}

#[tokio::test]
async fn claude_thinking() {
    Scenario::new(
        "claude-thinking",
        &[ALWAYS, STARTS, TURNS, SEEDED, CLAUDE, CACHE_COUNTS, THINKING],
    )
    .replay()
    .await;
}

#[tokio::test]
async fn claude_tool() {
    Scenario::new(
        "claude-tool",
        &[ALWAYS, STARTS, TURNS, SEEDED, CLAUDE, CACHE_COUNTS, CLAUDE_TOOLS],
    )
    .replay()
    .await;
}
