//! Completions and manual pages are made from the command line, so they know all of it.

use crate::command::collodi;

#[test]
fn every_shell_completes_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = collodi(&["completions", shell]);
        assert_eq!(said.code, Some(0), "{said:?}");
        for word in ["serve", "rollout", "undo-restore", "data-dir"] {
            assert!(said.out.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(collodi(&["completions", "sh"]).code, Some(2));
}

#[test]
fn the_manual_has_a_page_for_every_command() {
    let page = collodi(&["man"]);
    assert_eq!(page.code, Some(0));
    assert!(
        page.out.contains(".TH collodi 1") && page.out.contains("collodi\\-ops"),
        "{}",
        page.out
    );
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(collodi(&["man", "--to", folder.path().to_str().unwrap()]).code, Some(0));
    for name in ["collodi.1", "collodi-serve.1", "collodi-ops-rollout.1"] {
        let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(text.contains(".SH NAME"), "{name}");
    }
}
