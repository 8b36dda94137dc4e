//! `agentmode` (chapter 40 §10): tells the model which mode it is in, and lets it switch.

use std::sync::Arc;

use collodi_chat::middleware::{Around, Middleware, Notice, Working};
use collodi_chat::turn::{Block, Kind, keys};
use collodi_profiles::json::Object;
use serde::Deserialize;
use serde_json::{Value, json};

const TAG: &str = "geppetto.agentmode_tag@v1";
const MODE: &str = "geppetto.agentmode@v1";
const TAGS: [&str; 3] =
    ["agentmode_system_prompt", "agentmode_switch_instructions", "agentmode_user_prompt"];

#[derive(Debug)]
struct Mode {
    name: &'static str,
    /// The only tools that it offers; none listed is all.
    tools: &'static [&'static str],
    prompt: &'static str,
}

/// In order of name.
static MODES: [Mode; 3] = [
    Mode {
        name: "category_regexp_designer",
        tools: &[],
        prompt: "You design regular expressions that sort transactions into categories. Propose one expression at a \
                 time, and check with a SQL query how many transactions it matches.",
    },
    Mode {
        name: "category_regexp_reviewer",
        tools: &[],
        prompt: "You review regular expressions that sort transactions into categories. Look for transactions that \
                 they match and should not, and for those that they miss, and say what to change.",
    },
    Mode {
        name: "financial_analyst",
        tools: &[],
        prompt: "You analyse financial transactions. Look for patterns, explain them, and propose categories that \
                 would help to understand where the money goes.",
    },
];

/// One use of the middleware.
#[derive(Debug)]
pub struct AgentMode {
    default_mode: String,
    modes: &'static [Mode],
}

impl AgentMode {
    /// Reads the configuration.
    #[must_use]
    pub fn new(config: &Object) -> Self {
        let default_mode = config.get("default_mode").and_then(Value::as_str).unwrap_or("default");
        Self { default_mode: default_mode.to_owned(), modes: &MODES }
    }

    fn find(&self, name: &str) -> Option<&'static Mode> {
        self.modes.iter().find(|mode| mode.name.eq_ignore_ascii_case(name.trim()))
    }

    fn current(&self, turn: &Working) -> String {
        let carried = turn.data.get(keys::AGENT_MODE).and_then(Value::as_str);
        carried.unwrap_or(&self.default_mode).to_owned()
    }
}

impl Middleware for AgentMode {
    fn before(&self, turn: &mut Working, around: &mut Around<'_>) -> Result<(), String> {
        let current = self.current(turn);
        turn.data.insert(keys::AGENT_MODE.into(), current.as_str().into());
        turn.data.remove(keys::AGENT_MODE_TOOLS);
        let Some(mode) = self.find(&current) else {
            // `default` is what a use without configuration has; it has no instructions.
            if current != "default" {
                tracing::warn!(mode = current, "unknown agent mode");
            }
            return Ok(());
        };
        if !mode.tools.is_empty() {
            turn.data.insert(keys::AGENT_MODE_TOOLS.into(), json!(mode.tools));
            around.allowed = Some(mode.tools.iter().map(ToString::to_string).collect());
        }
        let text = prompt(mode, self.modes);
        // The same instructions are the same block, so that they are stored once.
        let same = turn.blocks.iter().find(|b| is_prompt(b) && b.as_text() == text).cloned();
        let block = same.unwrap_or_else(|| {
            let block = Block::text((around.new_id)(), Kind::User, &text);
            Arc::new(block.with_metadata(TAG, TAGS[2]).with_metadata(MODE, mode.name))
        });
        remove_prompts(turn);
        let at = turn.blocks.len().saturating_sub(1);
        turn.blocks.insert(at, block);
        around.notices.push(Notice::Log {
            level: "info",
            message: "agentmode: user prompt inserted".into(),
            fields: json!({ "mode": mode.name }),
        });
        Ok(())
    }

    fn after(
        &self,
        turn: &mut Working,
        new: &[Arc<Block>],
        around: &mut Around<'_>,
    ) -> Result<(), String> {
        let mut said = new.iter().rev().filter(|block| block.kind == Kind::LlmText);
        let Some(switch) = said.find_map(|block| switch_in(block.as_text())) else {
            return Ok(());
        };
        let from = self.current(turn);
        // Only modes that there are, under their own names (INF-21).
        let wanted = switch.new_mode.as_deref().map(str::trim).filter(|mode| !mode.is_empty());
        let to = match wanted {
            Some(wanted) if wanted == from => return Ok(()),
            Some(wanted) => self.find(wanted).map_or(from.as_str(), |mode| mode.name),
            None => from.as_str(),
        };
        if to != from {
            turn.data.insert(keys::AGENT_MODE.into(), to.into());
            let text = format!("[agent-mode] switched to {to}");
            turn.blocks.push(Arc::new(Block::text((around.new_id)(), Kind::System, &text)));
        }
        let to = to.to_owned();
        let analysis = switch.analysis.trim().to_owned();
        around.notices.push(Notice::AgentMode { from, to, analysis });
        Ok(())
    }
}

fn is_prompt(block: &Block) -> bool {
    block.metadata.get(TAG).and_then(Value::as_str).is_some_and(|tag| TAGS.contains(&tag))
}

/// Takes the instructions of this middleware out of a turn.
pub fn remove_prompts(turn: &mut Working) {
    turn.blocks.retain(|block| !is_prompt(block));
}

fn prompt(mode: &Mode, modes: &[Mode]) -> String {
    let names: Vec<&str> = modes.iter().map(|mode| mode.name).collect();
    format!(
        "<currentMode>{}</currentMode>\n\n\
         <modeSwitchGuidelines>Consider whether another mode would help with what the user asks. If so, propose it in \
         the form below. If you only want to say why you stay, leave new_mode out.</modeSwitchGuidelines>\n\n\
         ```yaml\nmode_switch:\n  analysis: |\n    why a switch would help, or why not\n  \
         new_mode: MODE_NAME  # leave out to stay\n```\n\n\
         Current mode: {}\nAvailable modes: {}\n\n\
         Staying in the current mode is often right: switch only when it clearly helps.",
        mode.prompt.trim(),
        mode.name,
        names.join(", "),
    )
}

#[derive(Deserialize)]
struct Fence {
    mode_switch: Switch,
}

#[derive(Deserialize)]
struct Switch {
    #[serde(default)]
    analysis: String,
    new_mode: Option<String>,
}

/// The first fenced YAML block that proposes or declines a switch, with reasons.
fn switch_in(text: &str) -> Option<Switch> {
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else { continue };
        let fence = line.len() - line.trim_start().len();
        let body: Vec<&str> =
            lines.by_ref().take_while(|line| !line.trim_start().starts_with("```")).collect();
        let language = info.trim().to_ascii_lowercase();
        if !matches!(language.as_str(), "yaml" | "yml") {
            continue;
        }
        let body: Vec<&str> =
            body.iter().map(|line| line.get(fence..).unwrap_or_default()).collect();
        let parsed: Option<Fence> = serde_saphyr::from_str(&body.join("\n")).ok();
        if let Some(Fence { mode_switch }) = parsed
            && !mode_switch.analysis.trim().is_empty()
        {
            return Some(mode_switch);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use collodi_chat::tool::ToolSet;

    fn around(run: impl FnOnce(&mut Around<'_>)) -> Vec<Notice> {
        let (mut tools, new_id) = (ToolSet::default(), || "id".to_owned());
        let mut around =
            Around { tools: &mut tools, allowed: None, new_id: &new_id, notices: Vec::new() };
        run(&mut around);
        around.notices
    }

    fn turn(mode: &str) -> Working {
        let mut turn = Working::default();
        turn.data.insert(keys::AGENT_MODE.into(), mode.into());
        turn.blocks.push(Arc::new(Block::text("u", Kind::User, "hi")));
        turn
    }

    fn answer(text: &str) -> Arc<Block> {
        Arc::new(Block::text("a", Kind::LlmText, text))
    }

    fn middleware() -> AgentMode {
        AgentMode::new(&Object::new())
    }

    #[test]
    fn instructions_stand_before_the_last_block_and_once() {
        let mut turn = turn("Financial_Analyst");
        let before =
            |turn: &mut Working| around(|around| middleware().before(turn, around).unwrap());
        let notices = before(&mut turn);
        let first = turn.blocks[0].clone();
        before(&mut turn);
        assert!(Arc::ptr_eq(&first, &turn.blocks[0]), "the same instructions are the same block");
        assert_eq!((turn.blocks.len(), turn.blocks[1].id.as_str()), (2, "u"));
        assert!(first.as_text().contains(
            "Current mode: financial_analyst\nAvailable modes: category_regexp_designer, "
        ));
        assert_eq!(first.metadata[MODE], "financial_analyst");
        assert!(matches!(&notices[..], [Notice::Log { level: "info", .. }]));
        remove_prompts(&mut turn);
        assert_eq!(turn.blocks.len(), 1);
    }

    #[test]
    fn unknown_modes_insert_nothing() {
        let mut turn = turn("default");
        assert_eq!(around(|around| middleware().before(&mut turn, around).unwrap()), []);
        assert_eq!(turn.blocks.len(), 1);
    }

    #[test]
    fn inf_22_a_mode_offers_the_tools_that_it_lists_and_the_next_one_its_own() {
        static TWO: [Mode; 2] = [
            Mode { name: "narrow", tools: &["calc"], prompt: "" },
            Mode { name: "wide", tools: &[], prompt: "" },
        ];
        let middleware = AgentMode { default_mode: "narrow".into(), modes: &TWO };
        let mut turn = Working::default();
        let mut allowed = |mode: Option<&str>| {
            if let Some(mode) = mode {
                turn.data.insert(keys::AGENT_MODE.into(), mode.into());
            }
            let mut allowed = None;
            around(|around| {
                middleware.before(&mut turn, around).unwrap();
                allowed = around.allowed.clone();
            });
            (allowed, turn.data.get(keys::AGENT_MODE_TOOLS).cloned())
        };
        let narrow = (Some(vec!["calc".to_owned()]), Some(json!(["calc"])));
        assert_eq!(allowed(None), narrow);
        assert_eq!(allowed(Some("WIDE")), (None, None));
        assert_eq!(allowed(Some("narrow")), narrow);
        assert_eq!(allowed(Some("unknown")), (None, None));
    }

    #[test]
    fn inf_21_switches_are_read_from_the_last_answer_and_lead_to_modes_that_there_are() {
        let outcome = |text: &str| {
            let mut turn = turn("financial_analyst");
            let new = [answer(text)];
            let notices = around(|around| middleware().after(&mut turn, &new, around).unwrap());
            let to = match notices.first() {
                Some(Notice::AgentMode { to, .. }) => to.clone(),
                _ => "-".into(),
            };
            (to, turn.data[keys::AGENT_MODE].as_str().unwrap().to_owned(), turn.blocks.len())
        };
        let fence = |body: &str| format!("text\n```YAML\n{body}\n```\nmore");
        let stay = ("financial_analyst".to_owned(), "financial_analyst".to_owned(), 1);
        let nothing = ("-".to_owned(), "financial_analyst".to_owned(), 1);
        let designer = "category_regexp_designer".to_owned();
        assert_eq!(
            outcome(&fence(
                "mode_switch:\n  analysis: |\n    because\n  new_mode: Category_Regexp_Designer"
            )),
            (designer.clone(), designer, 2)
        );
        assert_eq!(outcome(&fence("mode_switch:\n  analysis: stay")), stay);
        assert_eq!(
            outcome(&fence("mode_switch:\n  analysis: x\n  new_mode: nowhere")),
            stay,
            "INF-21"
        );
        assert_eq!(
            outcome(&fence("mode_switch:\n  analysis: x\n  new_mode: financial_analyst")),
            nothing
        );
        assert_eq!(outcome(&fence("mode_switch:\n  new_mode: category_regexp_designer")), nothing);
        assert_eq!(outcome("```yaml\n: [\n```\n```text\nmode_switch: 1\n```"), nothing);
    }
}
