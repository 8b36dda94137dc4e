//! The rules by name.

use super::common::*;
use super::events::projected;
use super::failures::{failed, warned};
use super::runs::*;
use super::turns::*;
use super::{Make, Rule};

/// What is different in every scenario with a run.
pub(in super::super) const ALWAYS: &[Rule] = &[
    Rule { reason: "D24: a message without text is no entity", make: Make::Recorded(no_blank) },
    Rule { reason: "decision 22: every frame has a number of its own", make: Make::Both(numbers) },
    Rule { reason: "decision 24: deltas are coalesced", make: Make::Both(coalesced) },
    Rule { reason: "decision 42: attribution in metadata", make: Make::Both(attribution) },
    Rule {
        reason: "decision 26: a prompt names the turn that can be retried",
        make: Make::Both(turn_ids),
    },
    Rule { reason: "D45: a prompt is answered with JSON", make: Make::Recorded(json_answers) },
    Rule { reason: "decision 18: answers say what a prompt runs under", make: Make::Both(answers) },
    Rule {
        reason: "INF-15: an argument with a default is not required",
        make: Make::Recorded(optional_arguments),
    },
];

/// What is different in every answer that shows stored turns.
pub(in super::super) const TURNS: &[Rule] = &[
    Rule {
        reason: "decision 35: snake_case keys of the tool configuration",
        make: Make::Both(snake_case),
    },
    Rule {
        reason: "chapter 30 §4.4: a turn says what it ran under",
        make: Make::Both(self_described),
    },
    Rule {
        reason: "chapter 30 §4.1: provider, model, usage and stop reason",
        make: Make::Both(said_by_provider),
    },
];

/// Where a turn has several model calls.
pub(in super::super) const ORDERED: &[Rule] = &[Rule {
    reason: "D36: snapshots are listed as they were taken",
    make: Make::Recorded(ordered),
}];

/// Where a log, a mode or a pause is shown.
pub(in super::super) const PROJECTED: &[Rule] = &[Rule {
    reason: "decision 34, D25: log, agent.mode, debugger.pause are projected",
    make: Make::Recorded(projected),
}];

/// Where a run fails.
pub(in super::super) const FAILED: &[Rule] = &[Rule {
    reason: "decision 26, D12: a failed run reaches the user and keeps what was said",
    make: Make::Recorded(failed),
}];

/// Where an answer is cut by a limit.
pub(in super::super) const WARNED: &[Rule] = &[Rule {
    reason: "decision 33: a cut answer is complete and says so",
    make: Make::Recorded(warned),
}];

/// Where a provider refuses for a while.
pub(in super::super) const RETRIED: &[Rule] = &[Rule {
    reason: "a 429 with Retry-After is asked again before the first byte",
    make: Make::Both(retried),
}];

/// Where a mode is switched.
pub(in super::super) const MODE_IDS: &[Rule] = &[Rule {
    reason: "D60: ids are made of the turn, not of chance",
    make: Make::Recorded(mode_ids),
}];

/// Where a middleware or another profile changes the context.
pub(in super::super) const PREPARED: &[Rule] = &[Rule {
    reason: "decision 36: pre_inference is taken after the middlewares",
    make: Make::Both(prepared),
}];

/// Where tools run side by side.
pub(in super::super) const ANY_ORDER: &[Rule] = &[Rule {
    reason: "README of the transcripts: the order of parallel calls is random",
    make: Make::Both(any_order),
}];

/// Where frames are counted.
pub(in super::super) const HELD: &[Rule] = &[Rule {
    reason: "decision 24: coalesced deltas are fewer frames",
    make: Make::At("answers * body ** buffered_events"),
}];

/// The Messages format.
pub(in super::super) const CLAUDE: &[Rule] = &[Rule {
    reason: "decision 24: a delta without text is not sent",
    make: Make::Recorded(no_empty_deltas),
}];

/// The start of a message in the Messages format.
pub(in super::super) const STARTS: &[Rule] = &[Rule {
    reason: "chapter 40 §4.4: a start is said before the call, so before its counts",
    make: Make::Recorded(uncounted),
}];

/// The Messages format with tools.
pub(in super::super) const CLAUDE_TOOLS: &[Rule] = &[
    Rule {
        reason: "chapter 40 §14.4: no dump of the calls in what users see",
        make: Make::Recorded(no_dump),
    },
    Rule {
        reason: "chapter 40 §14.4: neighbours of one role are one message",
        make: Make::Recorded(merged),
    },
];

/// Reasoning text of Chat Completions.
pub(in super::super) const THOUGHT: &[Rule] =
    &[Rule { reason: "decision 34: reasoning text is shown", make: Make::Recorded(thought) }];

/// The Responses format.
pub(in super::super) const RESPONSES: &[Rule] = &[
    Rule {
        reason: "decision 34: what only the provider can read, with its name",
        make: Make::At("answers * body items * payload blocks * metadata"),
    },
    Rule {
        reason: "INF-12: reasoning only for reasoning models",
        make: Make::At("requests * body reasoning"),
    },
    Rule {
        reason: "INF-12: encrypted reasoning only of reasoning models",
        make: Make::At("requests * body include"),
    },
];

/// A cut stream of the Messages format.
pub(in super::super) const ALIVE: &[Rule] =
    &[Rule { reason: "decision 33: the process goes on", make: Make::Both(alive) }];

/// A socket of another profile while a prompt runs and one waits.
pub(in super::super) const OWN_PROFILE: &[Rule] = &[
    Rule {
        reason: "D7: a queued prompt runs under the profile it was submitted with",
        make: Make::Recorded(own_profile),
    },
    Rule {
        reason: "D8: a socket switches nothing",
        make: Make::At("answers 5 body current_runtime_key"),
    },
    Rule {
        reason: "D8: the hello names the runtime of the conversation",
        make: Make::At("frames 1 0 data runtimeKey"),
    },
    Rule {
        reason: "decision 19: the pointer moves when a run starts",
        make: Make::At("answers 8 body current_runtime_key"),
    },
];

/// Replays with another prompt.
pub(in super::super) const OTHER_PROMPT: &[Rule] = &[Rule {
    reason: "decision 43: a key belongs to one prompt",
    make: Make::Recorded(other_prompt),
}];

/// What the debug API says of a pause.
pub(in super::super) const PAUSE: &[Rule] =
    &[Rule { reason: "decision 2, D40: snake_case keys of a pause", make: Make::Recorded(pauses) }];

/// Without database flags.
pub(in super::super) const DURABLE: &[Rule] = &[
    Rule { reason: "decision 5: storage is durable without flags", make: Make::At("answers 3 **") },
    Rule { reason: "D35: upserts have times", make: Make::At("frames * * data entity *") },
];

/// Everything that the debug API shows of one conversation.
pub(in super::super) const DEBUG: &[Rule] = &[
    Rule {
        reason: "§6.5: parsed has lower-case keys, kinds as words, real metadata",
        make: Make::At("answers 4 body items * parsed **"),
    },
    Rule {
        reason: "D39: held frames have their own numbers",
        make: Make::At("answers 7 body items * seq"),
    },
    Rule {
        reason: "D39: since_seq is a frame's number",
        make: Make::At("answers 8 body items 0 **"),
    },
    Rule {
        reason: "D22: a limit keeps the newest",
        make: Make::At("answers 9 body entities 0 **"),
    },
];

/// Which profile a prompt runs under.
pub(in super::super) const SELECTION: &[Rule] = &[
    Rule {
        reason: "decisions 20, 21: a stale cookie falls back to the default, bad overrides are refused with a reason",
        make: Make::Recorded(selection),
    },
    Rule { reason: "D16: a message is published once", make: Make::Recorded(once) },
    Rule {
        reason: "decision 10: the tools of the profile, in the turn",
        make: Make::At(
            "answers 22 body items * payload data geppetto.tool_config@v1 allowed_tools",
        ),
    },
    Rule { reason: "decision 10: an empty list is no tools", make: Make::At("requests 9 body *") },
    Rule {
        reason: "D56: a socket alone stores nothing",
        make: Make::At("answers 28 body items 0 source"),
    },
];

/// What becomes of calls.
pub(in super::super) const CALLS: &[Rule] = &[
    Rule {
        reason: "D33, INF-15: every call has an end, with its error",
        make: Make::Recorded(every_call_ends),
    },
    Rule {
        reason: "INF-15, chapter 40 §14.2: defaults are applied, bad arguments are refused",
        make: Make::At("answers 3 body items * payload blocks * payload *"),
    },
    Rule {
        reason: "chapter 40 §14.2: bad arguments are kept as written",
        make: Make::At("answers 3 body items * payload blocks 5 metadata"),
    },
    Rule {
        reason: "INF-15, chapter 40 §14.2: the model is told so",
        make: Make::At("requests 1 body messages * content"),
    },
];

/// The mode of a turn.
pub(in super::super) const MODES: &[Rule] = &[
    Rule {
        reason: "D36: a snapshot has the data of its moment",
        make: Make::At("answers 6 body items 8 payload data geppetto.agent_mode@v1"),
    },
    Rule {
        reason: "D37: what a context repeats is one block",
        make: Make::At("answers 6 body items * payload blocks 4 id"),
    },
];

/// A thinking block of the Messages format.
pub(in super::super) const THINKING: &[Rule] = &[Rule {
    reason: "INF-13: thinking is shown, kept and replayed",
    make: Make::Recorded(thought_through),
}];

/// The end of an answer in the Messages format.
pub(in super::super) const CACHE_COUNTS: &[Rule] = &[
    Rule {
        reason: "chapter 40 §14.4: the end keeps the count of cache writes",
        make: Make::At("frames * * metadata usage cacheCreationInputTokens"),
    },
    Rule {
        reason: "chapter 40 §14.4: the end keeps the count of cache reads",
        make: Make::At("frames * * metadata usage cacheReadInputTokens"),
    },
];

/// What the SQL tool prints.
pub(in super::super) const PRINTED: &[Rule] = &[
    Rule {
        reason: "chapter 40 §11: NULL, times in RFC 3339, a word where rows are left out",
        make: Make::Recorded(printed),
    },
    Rule { reason: "INF-20: tools are sorted by name", make: Make::Recorded(sorted) },
];

/// Where the first profile of a conversation is its seed.
pub(in super::super) const SEEDED: &[Rule] = &[Rule {
    reason: "chapter 40 §5: who wrote the system block",
    make: Make::At("answers * body items * payload blocks 0 metadata"),
}];
