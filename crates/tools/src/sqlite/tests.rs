use super::*;
use tokio_util::sync::CancellationToken;

const LIMITS: Limits = Limits { rows: 200, time: Duration::from_secs(20), lines: 50, bytes: 1024 };

struct Sample {
    folder: tempfile::TempDir,
}

impl Sample {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let connection = Connection::open(folder.path().join("a.db")).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE t (id INTEGER, name TEXT, raw BLOB);
                 INSERT INTO t VALUES (1, 'one', x'0102'), (2, NULL, NULL);
                 CREATE TABLE _prompts (prompt TEXT); INSERT INTO _prompts VALUES ('look at t'), (' ');",
            )
            .unwrap();
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("a.db")
    }

    fn run(&self, sql: &str, limits: Limits) -> String {
        let cancel = CancellationToken::new();
        query(&self.path(), sql, limits, &ToolContext { cancel, timeout: Duration::from_mins(1) })
    }
}

#[test]
fn rows_are_lines_and_nothing_is_hidden() {
    let sample = Sample::new();
    assert_eq!(
        sample.run("SELECT * FROM t ORDER BY id", LIMITS),
        "id | name | raw\n1 | one | <blob 2 bytes>\n2 | NULL | NULL"
    );
    assert_eq!(sample.run("  -- why\nVALUES (1)", LIMITS), "column1\n1");
    assert!(sample.run("PRAGMA table_info(t)", LIMITS).contains("name"));
    assert!(sample.run("SELECT nothing", LIMITS).starts_with("error: "));
}

#[test]
fn inf_4_only_reading_is_allowed() {
    let sample = Sample::new();
    let before = std::fs::read(sample.path()).unwrap();
    for sql in [
        "INSERT INTO t VALUES (3, 'x', NULL)",
        "DELETE FROM t",
        "UPDATE t SET id = 5",
        "DROP TABLE t",
        "CREATE TABLE u (x)",
        "ATTACH '/tmp/other.db' AS o",
        "VACUUM INTO '/tmp/copy.db'",
        "PRAGMA writable_schema = on",
        "PRAGMA journal_mode = delete",
        "SELECT load_extension('x')",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE t",
        "BEGIN",
        "WITH x AS (SELECT 1) DELETE FROM t",
        "REPLACE INTO t VALUES (1, 'x', NULL)",
    ] {
        let seen = sample.run(sql, LIMITS);
        assert!(seen == REFUSED || seen.starts_with("error: "), "{sql}: {seen}");
        assert!(!seen.contains("\n1"), "{sql}: {seen}");
    }
    assert_eq!(std::fs::read(sample.path()).unwrap(), before);
}

#[test]
fn inf_5_limits_hold_before_a_row_is_added_and_are_said() {
    let sample = Sample::new();
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000) SELECT i FROM n";
    let cut = sample.run(many, Limits { rows: 2, ..LIMITS });
    assert_eq!(cut, "i\n1\n2\n... additional data cutoff (1 kB)");
    let cut = sample.run(many, Limits { lines: 2, ..LIMITS });
    assert_eq!(cut, "i\n1\n... additional data cutoff (1 kB)");
    let wide = sample.run("SELECT hex(zeroblob(100000)) AS x", Limits { bytes: 100, ..LIMITS });
    assert!(wide.len() < 160 && wide.ends_with("cutoff (1 kB)"), "{wide}");
    assert!(
        !sample.run("SELECT 1", Limits { rows: 1, ..LIMITS }).contains("cutoff"),
        "nothing was left out"
    );
}

#[test]
fn f23_endless_queries_are_stopped() {
    let sample = Sample::new();
    let endless =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let limits = Limits { time: Duration::from_millis(50), ..LIMITS };
    assert_eq!(sample.run(endless, limits), "error: the query took longer than 50 ms");
    assert!(sample.run("SELECT length(randomblob(1000000000))", LIMITS).starts_with("error: "));
}

#[test]
fn the_model_is_told_the_schema_and_the_prompts() {
    let sample = Sample::new();
    let told = describe(&sample.path());
    let base = told.lines().next().unwrap();
    assert_eq!(
        told,
        format!(
            "{base}\n\nSchema:\n\nCREATE TABLE t (id INTEGER, name TEXT, raw BLOB);\n\nPrompts:\n\n- look at t\n"
        )
    );
}

#[test]
fn databases_of_profiles_lie_in_the_operator_s_folder() {
    let sample = Sample::new();
    let folder = sample.folder.path();
    assert!(inside("a.db", None).unwrap_err().contains("--sql-tool-dir"));
    assert!(inside("file:a.db?mode=ro", Some(folder)).is_ok());
    assert!(inside("../../etc/passwd", Some(folder)).is_err());
    let link = folder.join("link.db");
    std::os::unix::fs::symlink("/etc/hostname", &link).unwrap();
    assert!(inside("link.db", Some(folder)).is_err());
}
