//! `collodi profiles`: profiles as code, against a server and against its database.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::command::{Said, bare, collodi, said};
use crate::server::Server;

const TEAM: &str = "slug: default
default_profile_slug: analyst
profiles:
  analyst:
    display_name: Analyst
    runtime:
      system_prompt: |
        Be brief.
        Be right.
  writer: {display_name: Writer}
";

/// A server, and the two ways to its profiles.
struct Stage {
    server: Server,
    file: PathBuf,
}

impl Stage {
    fn new() -> Self {
        let server = Server::start(&[]);
        let file = server.folder.path().join("profiles.yaml");
        std::fs::write(&file, TEAM).unwrap();
        Self { server, file }
    }

    fn ways(&self) -> [[String; 2]; 2] {
        let data = self.server.folder.path().join("data");
        [
            ["--target".into(), format!("http://{}", self.server.address)],
            ["--data-dir".into(), data.to_str().unwrap().into()],
        ]
    }

    fn file(&self) -> &str {
        self.file.to_str().unwrap()
    }
}

fn run(way: &[String; 2], arguments: &[&str]) -> Said {
    let way = [way[0].as_str(), way[1].as_str()];
    collodi(&[&["profiles"], arguments, &way].concat())
}

fn passes(way: &[String; 2], arguments: &[&str]) -> String {
    let said = run(way, arguments);
    assert_eq!(said.code, Some(0), "{arguments:?} {said:?}");
    said.out
}

#[test]
fn plan_apply_plan_is_empty_and_an_edit_by_hand_is_drift() {
    for way in 0..2 {
        let stage = Stage::new();
        let way = &stage.ways()[way];
        let file = stage.file();
        let plan = run(way, &["plan", file]);
        assert_eq!(plan.code, Some(1), "{plan:?}");
        assert!(plan.out.contains("create default/analyst (version 1)\n"), "{}", plan.out);
        let revision = plan.out.trim().rsplit(' ').next().unwrap();
        let applied = passes(way, &["apply", file, "--expect", revision, "--note", "first"]);
        assert!(applied.contains("3 changes made"), "{applied}");
        assert!(passes(way, &["plan", file]).starts_with("in step with the file"));

        let text = std::fs::read_to_string(file).unwrap();
        std::fs::write(file, text.replace("Be right.", "Be quick.")).unwrap();
        let drift = run(way, &["plan", file, "--prune"]);
        assert_eq!(drift.code, Some(1));
        for line in
            ["update default/analyst (version 2)\n", "      - Be right.\n", "      + Be quick.\n"]
        {
            assert!(drift.out.contains(line), "{line}: {}", drift.out);
        }
        let planned: Value =
            serde_json::from_str(&run(way, &["plan", file, "--output", "json"]).out).unwrap();
        assert_eq!(planned["steps"][0]["changes"][0]["path"], "runtime.system_prompt");

        let late = run(way, &["apply", file, "--expect", revision]);
        assert_eq!(late.code, Some(1));
        assert!(late.err.contains("revision conflict"), "{late:?}");
        assert!(late.err.contains("create default/analyst (version 1) by"), "{late:?}");

        std::fs::write(file, TEAM.replace("  writer: {display_name: Writer}\n", "")).unwrap();
        let pruned = passes(way, &["apply", file, "--prune"]);
        assert!(pruned.contains("delete default/writer (version 2)"), "{pruned}");
        let listed = passes(way, &["list"]);
        assert!(!listed.contains("writer") && listed.contains("agent"), "{listed}");
    }
}

#[test]
fn history_shows_what_was_and_restore_makes_it_a_new_version() {
    for way in 0..2 {
        let stage = Stage::new();
        let way = &stage.ways()[way];
        passes(way, &["apply", stage.file(), "--note", "first"]);
        std::fs::write(stage.file(), TEAM.replace("Be brief.", "Be long.")).unwrap();
        passes(way, &["apply", stage.file(), "--note", "second"]);
        let changes = passes(way, &["history", "analyst", "--output", "json"]);
        let changes: Value = serde_json::from_str(&changes).unwrap();
        // The newest line is that of the default, which kept the version.
        let notes: Vec<&str> =
            changes.as_array().unwrap().iter().filter_map(|c| c["note"].as_str()).collect();
        assert_eq!(notes, ["second", "first", "first"]);
        let diff = run(way, &["diff", "analyst"]);
        assert_eq!(diff.code, Some(1));
        assert!(diff.out.contains("- Be brief.\n    + Be long.\n"), "{}", diff.out);
        assert_eq!(run(way, &["diff", "analyst", "--from", "2", "--to", "2"]).code, Some(0));
        assert_eq!(run(way, &["diff", "nobody"]).code, Some(2));

        assert!(passes(way, &["show", "analyst", "--version", "1"]).contains("Be brief."));
        let late = run(way, &["restore", "analyst", "--version", "1", "--expect", "1"]);
        assert_eq!((late.code, late.err.contains("version conflict")), (Some(1), true), "{late:?}");
        let restored = passes(way, &["restore", "analyst", "--version", "1", "--note", "back"]);
        assert!(restored.contains("as version 3"), "{restored}");
        let now: Value =
            serde_json::from_str(&passes(way, &["show", "analyst", "--output", "json"])).unwrap();
        assert_eq!(now["runtime"]["system_prompt"], "Be brief.\nBe right.\n");
        let unknown = run(way, &["restore", "analyst", "--version", "9"]);
        assert!(unknown.err.contains("version not found"), "{unknown:?}");
    }
}

#[test]
fn an_export_applied_elsewhere_gives_the_same_profiles_and_an_import_only_adds() {
    let (one, other) = (Stage::new(), Stage::new());
    let [server, database] = one.ways();
    passes(&server, &["apply", one.file()]);
    let exported = passes(&server, &["export"]);
    assert_eq!(exported, passes(&database, &["export"]), "both ways say the same");
    let copy = other.server.folder.path().join("copy.yaml");
    std::fs::write(&copy, &exported).unwrap();
    let copy = copy.to_str().unwrap();
    let [server, _] = other.ways();
    passes(&server, &["apply", copy]);
    assert!(passes(&server, &["plan", copy]).starts_with("in step"));

    std::fs::write(
        copy,
        "extra: {ai-chat: {ai-engine: m}}\nanalyst: {ai-chat: {ai-engine: other}}\n",
    )
    .unwrap();
    let added = passes(&server, &["import", copy]);
    assert!(
        added.starts_with("create default/extra (version 1)\n") && added.contains("1 change made"),
        "{added}"
    );
    assert!(!passes(&server, &["show", "analyst"]).contains("other"));
}

#[test]
fn an_export_of_an_adopted_registry_is_in_step_whatever_newer_rules_say() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("profiles.db");
    std::fs::copy(sample("profiles.db"), &database).unwrap();
    let server = Server::start(&["--profile-registry-db", database.to_str().unwrap()]);
    let way = ["--target".to_owned(), format!("http://{}", server.address)];
    let file = folder.path().join("p.yaml");
    let file = file.to_str().unwrap();
    passes(&way, &["export", "--to", file]);
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains("oddtools") && text.contains("***"), "{text}");
    assert!(passes(&way, &["plan", file, "--prune"]).starts_with("in step"));
    // What is written anew is judged.
    std::fs::write(file, text.replace("no_such_tool", "no_other_tool")).unwrap();
    assert!(text.contains("no_such_tool"), "{text}");
    let refused = run(&way, &["apply", file]);
    assert!(refused.err.contains("unknown tool \"no_other_tool\""), "{refused:?}");
}

#[test]
fn a_database_of_the_go_reference_is_looked_at_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("profiles.db");
    std::fs::copy(sample("profiles.db"), &database).unwrap();
    let before = std::fs::read(&database).unwrap();
    let way = ["--profile-registry-db".to_owned(), database.to_str().unwrap().to_owned()];
    assert!(passes(&way, &["list"]).contains("analyst"));
    assert!(passes(&way, &["show", "analyst"]).contains("slug: analyst"));
    let exported = passes(&way, &["export"]);
    let file = folder.path().join("p.yaml");
    std::fs::write(&file, &exported).unwrap();
    assert!(passes(&way, &["plan", file.to_str().unwrap()]).starts_with("in step"));
    assert!(exported.contains("***"), "keys are masked");
    let refused = run(&way, &["apply", file.to_str().unwrap()]);
    assert!(refused.err.contains("start a server on it first"), "{refused:?}");
    assert_eq!(std::fs::read(&database).unwrap(), before);
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");

    let archive = folder.path().join("packet.tar.gz");
    let (archive, database) = (archive.to_str().unwrap(), database.to_str().unwrap());
    let log = file.to_str().unwrap();
    let packet = collodi(&[
        "ops",
        "packet",
        "--target",
        "http://127.0.0.1:9",
        "--profile",
        "analyst",
        "--to",
        archive,
        "--profile-registry-db",
        database,
        "--log-file",
        log,
    ]);
    assert_eq!(packet.code, Some(0), "{packet:?}");
    assert_eq!(std::fs::read(database).unwrap(), before);
}

#[test]
fn a_file_is_judged_without_a_server_and_all_that_is_wrong_is_told() {
    let stage = Stage::new();
    let valid = collodi(&["profiles", "validate", stage.file()]);
    assert_eq!((valid.code, valid.out.as_str()), (Some(0), "valid: 2 profiles\n"));
    let broken = TEAM
        .replace("display_name: Writer", "runtime: {tools: [nope], middlewares: [{name: none}]}");
    std::fs::write(&stage.file, broken).unwrap();
    let invalid = collodi(&["profiles", "validate", stage.file()]);
    assert_eq!(invalid.code, Some(1));
    for field in ["runtime.middlewares[0].name", "runtime.tools[0]"] {
        assert!(
            invalid.out.contains(&format!("registries[default].profiles[writer].{field}")),
            "{}",
            invalid.out
        );
    }
    for way in stage.ways() {
        let refused = run(&way, &["apply", stage.file()]);
        assert_eq!(refused.code, Some(1));
        assert!(
            refused.err.contains("unknown tool") && refused.err.contains("middlewares[0]"),
            "{refused:?}"
        );
        assert_eq!(run(&way, &["plan", stage.file()]).code, Some(2), "no plan is no drift");
    }
    std::fs::write(&stage.file, "a: [").unwrap();
    assert_eq!(collodi(&["profiles", "validate", stage.file()]).code, Some(1));
    assert_eq!(collodi(&["profiles", "validate", "/nowhere"]).code, Some(2));
}

/// Runs `edit` with a shell command as the editor; `$1` is the file.
fn edit(way: &[String; 2], editor: &str) -> Said {
    let mut command = bare();
    command.args(["profiles", "edit", "analyst", "--note", "by hand"]).args(way);
    said(command.env_remove("VISUAL").env("EDITOR", editor))
}

#[test]
fn an_edit_stores_what_was_saved_and_comes_back_with_what_is_wrong() {
    for way in 0..2 {
        let stage = Stage::new();
        let way = &stage.ways()[way];
        passes(way, &["apply", stage.file()]);
        let untouched = edit(way, "true");
        assert_eq!((untouched.code, untouched.out.as_str()), (Some(0), "nothing changed\n"));
        let stored = edit(way, "sed -i 's/Be right./Be kind./'");
        assert!(stored.out.contains("default/analyst is at version 2"), "{stored:?}");

        // The first save is refused; the second mends what the reasons name.
        let script = stage.server.folder.path().join("editor.sh");
        std::fs::write(
            &script,
            "if grep -q '^#! .*unknown tool' \"$1\"; then sed -i 's/nope/calc/' \"$1\"; else printf 'runtime: {tools: [nope]}\\n' > \"$1\"; fi\n",
        )
        .unwrap();
        let mended = edit(way, &format!("sh {}", script.display()));
        assert!(mended.out.contains("at version 3"), "{mended:?}");
        let now = passes(way, &["show", "analyst"]);
        assert!(now.contains("calc") && !now.contains("#!"), "{now}");

        let given_up = edit(way, "sh -c 'grep -q ^#! \"$1\" || echo \"runtime: 5\" > \"$1\"' sh");
        assert_eq!(given_up.code, Some(1));
        let crashed = edit(way, "sh -c 'echo \"runtime: 5\" > \"$1\"; exit 3' sh");
        assert!(crashed.err.contains("failed: exit status: 3"), "{crashed:?}");
        for lost in [given_up, crashed] {
            let (_, path) = lost.err.split_once("what you wrote is in ").unwrap();
            let kept = path.split(": ").next().unwrap();
            assert!(std::fs::read_to_string(kept).unwrap().contains("runtime: 5"), "{lost:?}");
            std::fs::remove_file(kept).unwrap();
        }
        let failed = edit(way, "false");
        assert!(failed.err.contains("editor command ('false') failed"), "{failed:?}");
        assert_eq!(
            serde_json::from_str::<Value>(&passes(way, &["show", "analyst", "--output", "json"]))
                .unwrap()["metadata"]["version"],
            json!(3)
        );
    }
}

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/samples").join(name)
}

/// As the reference read them: dates became times there.
fn parsed(text: &str) -> Value {
    let value: Value = serde_saphyr::from_str(text).unwrap();
    serde_json::from_str(&value.to_string().replace("2026-01-02T00:00:00Z", "2026-01-02")).unwrap()
}

#[test]
fn c50_a7_old_files_become_what_the_reference_made_of_them() {
    let folder = tempfile::tempdir().unwrap();
    for (name, format, counts) in [
        ("legacy", "legacy-map", "Registries: 1\nProfiles: 4\n"),
        ("single", "single-registry", "Registries: 1\nProfiles: 2\n"),
    ] {
        let input = folder.path().join(format!("{name}.yaml"));
        std::fs::copy(sample(&format!("{name}.yaml")), &input).unwrap();
        let (input, output) =
            (input.to_str().unwrap(), format!("{}.registry.yaml", input.display()));
        let migrate = |more: &[&str]| {
            collodi(&[&["profiles", "migrate-legacy", "--input", input], more].concat())
        };
        let printed = migrate(&["--dry-run"]);
        let expected = std::fs::read_to_string(sample(&format!("{name}.registry.yaml"))).unwrap();
        assert_eq!(parsed(&printed.out), parsed(&expected), "{}", printed.out);
        assert!(!Path::new(&output).exists(), "a dry run writes nothing");
        let report = format!("Input: {input}\nInput format: {format}\nOutput: {output}\n{counts}");
        assert_eq!(migrate(&[]).out, report);
        assert_eq!(std::fs::read_to_string(&output).unwrap(), printed.out);
        let again = migrate(&[]);
        assert_eq!(again.code, Some(1));
        assert!(
            again.err.contains(&format!("output file already exists: {output} (use --force)")),
            "{again:?}"
        );
        assert_eq!(migrate(&["--force"]).code, Some(0));

        let backup = format!("{input}.bak");
        std::fs::write(&backup, "older").unwrap();
        let in_place = migrate(&["--in-place"]);
        assert!(in_place.out.ends_with(&format!("Backup: {backup}.1\n")), "{in_place:?}");
        assert_eq!(std::fs::read_to_string(&backup).unwrap(), "older", "no backup is overwritten");
        let skipped = migrate(&["--skip-if-not-legacy"]);
        let report = format!(
            "Input: {input}\nInput format: canonical-registries\nNo output written\nRegistries: 0\nProfiles: 0\n"
        );
        assert_eq!(skipped.out, report);
        assert_eq!(migrate(&["--skip-if-not-legacy", "--dry-run"]).out, "");
        let unchanged = migrate(&["--in-place"]);
        assert!(
            unchanged.out.contains("No output written") && !unchanged.out.contains("Backup"),
            "{unchanged:?}"
        );
    }
}

#[test]
fn c50_p2_keys_in_old_files_are_named_masked_and_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("p.yaml");
    std::fs::write(&input, "a:\n  openai-chat: {openai-api-key: sk-canary}\n").unwrap();
    let (input, output) = (input.to_str().unwrap(), format!("{}.registry.yaml", input.display()));
    let migrate = |more: &[&str]| {
        collodi(&[&["profiles", "migrate-legacy", "--input", input], more].concat())
    };
    let printed = migrate(&["--dry-run"]);
    assert!(
        printed.out.contains("openai-api-key: '***'")
            || printed.out.contains("openai-api-key: \"***\""),
        "{printed:?}"
    );
    let written = migrate(&[]);
    assert!(
        written.err.contains("profile a has openai-api-key: give the key to the server instead"),
        "{written:?}"
    );
    assert!(!format!("{printed:?}{written:?}").contains("sk-canary"));
    assert!(std::fs::read_to_string(&output).unwrap().contains("sk-canary"));
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&output).unwrap().permissions().mode() & 0o777, 0o600);
    for (text, refusal) in [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("[1]", "decode profiles YAML"),
        ("a: 5", "legacy profile \"a\" must map to section settings"),
        ("\"a b\": {}", "decode profiles YAML: validation error (profile.slug)"),
    ] {
        std::fs::write(input, text).unwrap();
        let refused = migrate(&["--force"]);
        assert_eq!(refused.code, Some(1), "{text:?}");
        assert!(refused.err.contains(refusal), "{text:?} {refused:?}");
    }
}
