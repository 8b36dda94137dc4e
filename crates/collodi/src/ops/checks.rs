//! Every check that is made against a running server, in the order of the operator's checklist.

use super::verdict::Check;

pub(crate) mod chat;
pub(crate) mod profiles;
pub(crate) mod schemas;

pub(crate) const RELEASE_MATCH: Check = Check {
    code: "release.match",
    line: 5,
    proves: "The applications are one release set",
    how: "GET /api/chat/release of every target; release, contract and schema version agree",
    hint: "Deploy the same release set everywhere, or take the odd one out.",
};
pub(crate) const API_PROFILES: Check = Check {
    code: "api.profiles",
    line: 6,
    proves: "The profile API is mounted",
    how: "GET /api/chat/profiles and /api/chat/profile",
    hint: "Check the address, the prefix (--root) and whether the new binary runs there.",
};
pub(crate) const API_SCHEMAS: Check = Check {
    code: "api.schemas",
    line: 7,
    proves: "The schema endpoints are mounted",
    how: "GET /api/chat/schemas/middlewares and /api/chat/schemas/extensions",
    hint: "The binary is older than the schema endpoints: deploy the new one.",
};
pub(crate) const PROFILES_LIST: Check = Check {
    code: "profiles.list",
    line: 8,
    proves: "The list of profiles is the expected one",
    how: "GET /api/chat/profiles, compared with --baseline where given",
    hint: "Compare the database file in use with the snapshot; restore if profiles are missing.",
};
pub(crate) const SCHEMAS_MIDDLEWARES: Check = Check {
    code: "schemas.middlewares",
    line: 9,
    proves: "The list of middleware schemas is not empty",
    how: "GET /api/chat/schemas/middlewares: every item has a name and a schema",
    hint: "The binary was built or configured without middleware definitions.",
};
pub(crate) const SCHEMAS_EXTENSIONS: Check = Check {
    code: "schemas.extensions",
    line: 10,
    proves: "The extension schemas are served",
    how: "GET /api/chat/schemas/extensions: every item has a key and a schema",
    hint: "The binary was built or configured without extension schemas.",
};
pub(crate) const REFUSE_UNKNOWN: Check = Check {
    code: "refuse.unknown_middleware",
    line: 11,
    proves: "A profile with an unknown middleware is refused",
    how: "POST /api/chat/profiles with a middleware that nobody has; expects 400 and no profile",
    hint: "Validation at write time is off: take this binary back.",
};
pub(crate) const REFUSE_CONFIG: Check = Check {
    code: "refuse.bad_config",
    line: 12,
    proves: "A configuration that breaks its schema is refused",
    how: "POST /api/chat/profiles with a configuration made to break a served schema; expects 400 and no profile",
    hint: "Validation at write time is off: take this binary back.",
};
pub(crate) const WRITE_PROFILE: Check = Check {
    code: "write.profile",
    line: 13,
    proves: "A valid create and a valid patch succeed and are seen",
    how: "POST, PATCH, GET and the list, with profiles that are deleted afterwards",
    hint: "Check the rights of the service account on the registry database, and its disk.",
};
pub(crate) const SELECT_COOKIE: Check = Check {
    code: "select.cookie",
    line: 14,
    proves: "Selecting a profile works and the cookie routes later requests",
    how: "POST and GET /api/chat/profile, then POST /chat with the cookie alone",
    hint: "Look for a proxy that drops cookies; the cookie must reach /chat.",
};
pub(crate) const CHAT_PROFILE: Check = Check {
    code: "chat.profile",
    line: 15,
    proves: "A request with an explicit profile is answered by the runtime of that profile",
    how: "POST /chat/{slug}; the runtime key of the answer, and its end",
    hint: "Look at the model provider (keys, address, limits) and at the log of the composer.",
};
pub(crate) const CHAT_SWITCH: Check = Check {
    code: "chat.switch",
    line: 16,
    proves: "After a switch the next turn uses the new profile, and earlier turns keep theirs",
    how: "A second turn under another profile in the same conversation; then the first is asked for again",
    hint: "Turns are attributed wrongly: take this binary back.",
};
pub(crate) const CLEANED_UP: Check = Check {
    code: "check.cleaned_up",
    line: 0,
    proves: "What the checks made is gone again",
    how: "DELETE of every profile and conversation that was made",
    hint: "Delete the named profiles by hand.",
};

/// What a check cannot be told without, in words.
pub(crate) fn needs(check: Check, other: Check) -> super::verdict::Finding {
    check.inconclusive(format!("needs line {} ({}), which did not pass", other.line, other.code))
}
