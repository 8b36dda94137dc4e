//! `collodi profiles edit`: a profile in the editor. What the rules refuse comes back with the reasons at its head.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::ArgMatches;
use collodi_profiles::profile::{authored, yaml};
use serde_json::Value;

use super::place::{Place, registry, version_of};
use super::{further_problems, note, slug};
use crate::output::print;

/// Reads, opens, and stores until it is taken or given up. What was written and not stored is kept.
pub(super) async fn run(matches: &ArgMatches) -> Result<ExitCode> {
    let note = note(matches)?;
    let place = Place::open(matches, true)?;
    let (of, slug) = (registry(matches)?, slug(matches)?);
    let document = place.document(&of, &slug, None).await?;
    let expected = document["metadata"]["version"].as_u64().unwrap_or(0);
    let original = shown(document)?;
    let mut file = tempfile::Builder::new()
        .prefix(&format!("{slug}-"))
        .suffix(".yaml")
        .tempfile()
        .context("make a file to edit")?;
    file.write_all(original.as_bytes()).context("write the file to edit")?;
    file.flush()?;
    let store = async |body: &str| {
        let draft = yaml::decode_one(&slug, body)?;
        let written: Vec<String> = draft.extensions.keys().cloned().collect();
        let stored = place.update(&of, &slug, draft, expected, note.clone()).await?;
        Ok((stored, written))
    };
    match rounds(file.path(), &original, store).await {
        Ok(Some((stored, written))) => {
            print(&format!("{of}/{slug} is at version {}\n", version_of(&stored)?))?;
            let now = stored["extensions"].as_object().into_iter().flat_map(|all| all.keys());
            for kept in now.filter(|key| !written.contains(key)) {
                print(&format!(
                    "{kept} is kept, because its middleware is; {{}} in its place empties it\n"
                ))?;
            }
        }
        Ok(None) => print("nothing changed\n")?,
        Err(error) if std::fs::read(file.path()).ok() != Some(original.into_bytes()) => {
            let kept = file.into_temp_path().keep()?;
            return Err(error.context(format!("what you wrote is in {}", kept.display())));
        }
        Err(error) => return Err(error),
    }
    Ok(ExitCode::SUCCESS)
}

/// Edits until `store` takes it; what it says then, or nothing if nothing was changed.
async fn rounds<T>(
    file: &Path,
    original: &str,
    store: impl AsyncFn(&str) -> Result<T>,
) -> Result<Option<T>> {
    let mut before = original.to_owned();
    loop {
        edit(file)?;
        let text = std::fs::read_to_string(file).context("read the edited file")?;
        let body = without_reasons(&text);
        if body == original {
            return Ok(None);
        }
        ensure!(text != before, "not stored");
        match store(&body).await {
            Ok(stored) => return Ok(Some(stored)),
            Err(error) => {
                before = with_reasons(&error, &body);
                std::fs::write(file, &before).context("write the file to edit")?;
            }
        }
    }
}

/// What of a profile is its author's, but for the name.
fn shown(mut document: Value) -> Result<String> {
    if let Some(members) = document.as_object_mut() {
        for key in ["registry", "is_default", "slug"] {
            members.remove(key);
        }
    }
    Ok(yaml::write(&authored(document))?)
}

/// Lines of ours at the head of the file.
const REASON: &str = "#! ";

fn with_reasons(error: &anyhow::Error, body: &str) -> String {
    let first = format!("{error:#}");
    let further = further_problems(error);
    let lines = first.lines().chain(further.iter().map(String::as_str));
    let lines: Vec<String> = lines.map(|line| format!("{REASON}{line}\n")).collect();
    let head = format!("{REASON}not stored; save without a change to give up\n");
    [head, lines.concat(), body.to_owned()].concat()
}

fn without_reasons(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with(REASON)).flat_map(|line| [line, "\n"]).collect()
}

/// Runs the editor, which may have arguments.
fn edit(path: &Path) -> Result<()> {
    let named = |name: &str| std::env::var(name).ok().filter(|editor| !editor.trim().is_empty());
    let editor = named("VISUAL").or_else(|| named("EDITOR")).unwrap_or_else(|| "vi".into());
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("sh")
        .arg(path)
        .status()
        .with_context(|| format!("start the editor {editor}"))?;
    ensure!(status.success(), "editor command ('{editor}') failed: {status}");
    Ok(())
}
