//! What a model is told: an ordered list of blocks (chapter 30 §4.1).

/// One block of a conversation's context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// The system prompt of the runtime that runs this turn; always first, set anew for each run.
    System(String),
    /// What the user said.
    User(String),
    /// What a model answered, also in part.
    Assistant(String),
}
