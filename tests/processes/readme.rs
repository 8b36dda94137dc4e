//! The README's shell blocks work as printed: each is run in order against one server, and every line of the `text` block
//! behind it stands in its output.

use std::path::Path;
use std::process::Command;

use crate::server::Server;

struct Example {
    script: String,
    expected: Vec<String>,
}

fn examples() -> Vec<Example> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut examples: Vec<Example> = Vec::new();
    let mut blocks = text.split("\n```").skip(1);
    while let Some(block) = blocks.next() {
        if let Some(script) = block.strip_prefix("sh\n") {
            examples.push(Example { script: script.to_owned(), expected: Vec::new() });
        } else if let Some(lines) = block.strip_prefix("text\n") {
            let example = examples.last_mut().expect("a text block follows a shell block");
            example.expected = lines.lines().map(str::to_owned).collect();
        }
        if block.contains('\n') {
            blocks.next(); // what is between this block and the next
        }
    }
    examples
}

#[test]
fn the_shell_blocks_of_the_readme_work_as_printed() {
    let server = Server::start(&["--demo-pace-ms", "5"]);
    let examples = examples();
    assert!(examples.len() >= 7, "found {}", examples.len());
    for Example { script, expected } in examples {
        let script = script.replace("localhost:8080", &server.address);
        let output = Command::new("bash")
            .args(["-euc", &script])
            .current_dir(server.folder.path())
            .output()
            .unwrap();
        let seen = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{script}\n{seen}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        for line in expected {
            assert!(seen.contains(&line), "{script}\ngave\n{seen}\nwithout\n{line}");
        }
    }
}
