//! `collodi profiles migrate-legacy` (chapter 50 A7): a file in, a bundle of registries out.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ArgMatches;
use collodi_profiles::profile::history::RegistryHead;
use collodi_profiles::profile::yaml::{self, Format, RegistryDraft};
use collodi_profiles::profile::{Draft, Extensions, Metadata, Profile};
use collodi_profiles::settings::redact::is_secret;
use collodi_profiles::{ExtensionKey, ProfileSlug, RegistrySlug};

use crate::output::print;

/// Converts, and reports what it did.
pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode> {
    let text = |name: &str| matches.get_one::<String>(name).map_or("", |text| text.trim());
    let on = |name: &str| matches.get_flag(name);
    let input = match text("input") {
        "" => default_input()?,
        path => clean(path),
    };
    let shown = input.display();
    let source = std::fs::read_to_string(&input)
        .map_err(|e| anyhow!("read input profiles file \"{shown}\": {e}"))?;
    let raw = text("registry");
    let registry =
        RegistrySlug::parse(raw).map_err(|e| anyhow!("parse registry slug \"{raw}\": {e}"))?;
    let format = Format::of(&source);
    let mut report = Report { input: &input, format, output: None, backup: None, counts: (0, 0) };
    let is_new = matches!(format, Format::Bundle | Format::Single);
    if on("skip-if-not-legacy") && is_new {
        if !on("dry-run") {
            report.print()?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if format == Format::Empty {
        bail!("input profiles file \"{shown}\" is empty");
    }
    let registries =
        yaml::decode(&source, &registry).map_err(|e| anyhow!("decode profiles YAML: {e}"))?;
    report.counts = (registries.len(), registries.iter().map(|r| r.profiles.len()).sum());
    let bundle = encode(registries.clone(), on("dry-run"))?;
    if on("dry-run") {
        print(&bundle)?;
        return Ok(ExitCode::SUCCESS);
    }
    warn_of_keys(&registries);
    let output = match (on("in-place"), text("output")) {
        (true, _) => input.clone(),
        (false, "") => PathBuf::from(format!("{}.registry.yaml", input.display())),
        (false, path) => clean(path),
    };
    if on("in-place") {
        // What is as it should be is not touched.
        if source == bundle {
            report.print()?;
            return Ok(ExitCode::SUCCESS);
        }
        if matches.get_one::<bool>("backup-in-place").copied().unwrap_or(true) {
            report.backup = Some(back_up(&input)?);
        }
    } else if output.exists() && !on("force") {
        bail!("output file already exists: {} (use --force)", output.display());
    }
    collodi_store::file::replace(&output, bundle.as_bytes())
        .with_context(|| format!("write output file {}", output.display()))?;
    report.output = Some(&output);
    report.print()?;
    Ok(ExitCode::SUCCESS)
}

/// What was done, in the contract's lines.
struct Report<'a> {
    input: &'a Path,
    format: Format,
    output: Option<&'a Path>,
    backup: Option<PathBuf>,
    counts: (usize, usize),
}

impl Report<'_> {
    fn print(&self) -> Result<()> {
        let mut lines = vec![
            format!("Input: {}", self.input.display()),
            format!("Input format: {}", self.format.as_str()),
            self.output.map_or("No output written".into(), |o| format!("Output: {}", o.display())),
            format!("Registries: {}", self.counts.0),
            format!("Profiles: {}", self.counts.1),
        ];
        lines.extend(self.backup.as_ref().map(|backup| format!("Backup: {}", backup.display())));
        print(&(lines.join("\n") + "\n"))
    }
}

/// The profiles path of the Go reference.
fn default_input() -> Result<PathBuf> {
    let folder = std::env::var_os("XDG_CONFIG_HOME")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")))
        .context("give --input FILE")?;
    Ok(folder.join("pinocchio/profiles.yaml"))
}

fn clean(path: &str) -> PathBuf {
    Path::new(path).components().collect()
}

/// Beside the file, under the first name that is free, so that no older backup is lost (P-5).
fn back_up(input: &Path) -> Result<PathBuf> {
    let name = |n: usize| match n {
        0 => PathBuf::from(format!("{}.bak", input.display())),
        n => PathBuf::from(format!("{}.bak.{n}", input.display())),
    };
    let free = (0..1000).map(name).find(|path| !path.exists());
    let backup = free.context("there are 1000 backups: take some away")?;
    std::fs::copy(input, &backup)
        .map_err(|e| anyhow!("write backup file \"{}\": {e}", backup.display()))?;
    Ok(backup)
}

/// As the file says it: the rules are run when it is applied, and what they would fill in is not this command's.
fn encode(registries: Vec<RegistryDraft>, masked: bool) -> Result<String> {
    let mut built = Vec::new();
    for registry in registries {
        let head = RegistryHead {
            display_name: registry.display_name,
            description: registry.description,
            default_profile: registry.default_profile,
            metadata: Metadata::default(),
        };
        let profiles: Result<Vec<Profile>> = registry
            .profiles
            .into_iter()
            .map(|(slug, draft)| profile(slug, draft, masked))
            .collect();
        built.push((registry.slug, head, profiles?));
    }
    let bundle = built.iter().map(|(slug, head, profiles)| (slug, head, profiles.clone()));
    yaml::encode(bundle).map_err(|e| anyhow!("encode registry YAML: {e}"))
}

fn profile(slug: ProfileSlug, mut draft: Draft, masked: bool) -> Result<Profile> {
    let extensions: Result<Extensions, _> = draft
        .extensions
        .into_iter()
        .map(|(key, payload)| ExtensionKey::parse(&key).map(|key| (key, payload)))
        .collect();
    if masked {
        for (name, value) in draft
            .runtime
            .step_settings_patch
            .values_mut()
            .filter_map(serde_json::Value::as_object_mut)
            .flatten()
        {
            if is_secret(name) {
                *value = "***".into();
            }
        }
    }
    Ok(Profile {
        slug,
        display_name: draft.display_name,
        description: draft.description,
        runtime: draft.runtime,
        policy: draft.policy,
        metadata: Metadata { tags: draft.tags, ..Metadata::default() },
        extensions: extensions.map_err(|e| anyhow!("decode profiles YAML: {e}"))?,
    })
}

/// Keys are kept, because they may be nowhere else; but no server will take them in a profile (decision 15).
fn warn_of_keys(registries: &[RegistryDraft]) {
    for (slug, draft) in registries.iter().flat_map(|registry| &registry.profiles) {
        let sections = draft.runtime.step_settings_patch.values();
        let fields = sections.filter_map(serde_json::Value::as_object).flatten();
        for (name, _) in fields.filter(|(name, _)| is_secret(name)) {
            super::say(&format!(
                "profile {slug} has {name}: give the key to the server instead; profiles with keys are refused"
            ));
        }
    }
}
