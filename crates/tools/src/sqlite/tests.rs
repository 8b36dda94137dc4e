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

/// Every file of the folder with its bytes.
fn files(sample: &Sample) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(sample.folder.path()).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

const NOT_READING: &[&str] = &[
    "SELECT * FROM changes",
    "SELECT * FROM main.changes",
    "DETACH main",
    "VACUUM",
    "REINDEX",
    "ANALYZE",
    "PRAGMA writable_schema = 1",
    "PRAGMA main.writable_schema=ON; UPDATE sqlite_schema SET sql = 'x'",
    "SELECT * FROM pragma_writable_schema(1)",
    "UPDATE sqlite_schema SET sql = 'x'",
    "DELETE FROM sqlite_master",
    "PRAGMA query_only = off",
    "PRAGMA trusted_schema = on",
    "PRAGMA journal_mode = wal",
    "PRAGMA wal_checkpoint(TRUNCATE)",
    "PRAGMA user_version = 7",
    "PRAGMA application_id = 7",
    "PRAGMA key = 'x'",
    "PRAGMA hard_heap_limit = 1",
    "SELECT load_extension('/lib/x86_64-linux-gnu/libc.so.6')",
    "SELECT Load_Extension('x', 'y')",
    "SELECT fts3_tokenizer('simple')",
    "SELECT fts3_tokenizer('x', x'00')",
    "CREATE TEMP TABLE u (x)",
    "CREATE TABLE temp.u AS SELECT 1",
    "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END",
    "CREATE VIEW v AS SELECT 1",
    "EXPLAIN DROP TABLE t; DROP TABLE t",
    "ROLLBACK",
    "SAVEPOINT s",
    "SELECT 1; --\n; INSERT INTO t VALUES (9, 'x', NULL)",
    "INSERT INTO t VALUES (9, 'x', NULL) RETURNING id",
    "DELETE FROM t RETURNING id",
    "WITH x AS (SELECT 9) INSERT INTO t SELECT * FROM x",
    "SELECT * FROM (DELETE FROM t RETURNING id)",
];

#[test]
fn f23_nothing_but_reading_this_file_is_allowed_and_no_file_changes() {
    let sample = Sample::new();
    let other = sample.folder.path().join("app.db");
    let connection = Connection::open(&other).unwrap();
    connection
        .execute_batch("CREATE TABLE changes (x); INSERT INTO changes VALUES ('canary')")
        .unwrap();
    drop(connection);
    let (other, before) = (other.to_str().unwrap().to_owned(), files(&sample));
    let copy = sample.folder.path().join("copy.db");
    let copy = copy.to_str().unwrap();
    let spelled: Vec<String> = vec![
        format!("ATTACH '{other}' AS o"),
        format!("attach database 'file:{other}?mode=rwc' as o"),
        format!("/* SELECT */ ATTACH '{other}' AS o"),
        format!("SELECT 1; ATTACH '{other}' AS o; SELECT * FROM o.changes"),
        format!("SELECT * FROM \"{other}\".changes"),
        format!("VACUUM INTO '{copy}'"),
        format!("VACUUM main INTO '{copy}'"),
        format!("SELECT writefile('{copy}', 'x')"),
        format!("SELECT readfile('{other}')"),
        format!("SELECT * FROM fsdir('{other}')"),
        format!("CREATE VIRTUAL TABLE temp.v USING csv(filename='{other}')"),
        format!("PRAGMA temp_store_directory = '{copy}'"),
    ];
    for sql in spelled.iter().map(String::as_str).chain(NOT_READING.iter().copied()) {
        let seen = sample.run(sql, LIMITS);
        assert!(seen == REFUSED || seen.starts_with("error: "), "{sql}: {seen}");
        assert!(!seen.contains("canary"), "{sql}: {seen}");
    }
    // The text ends for SQLite where a NUL is: what is behind it is nothing.
    assert_eq!(sample.run("SELECT 1; \0 DROP TABLE t", LIMITS), "1\n1");
    assert!(files(&sample) == before, "a file changed, came or went");
    assert!(sample.run("SELECT count(*) FROM t", LIMITS).ends_with("\n2"), "reading goes on");
}

/// Their time is short here; with the default of 20 s all of them would run for hours.
#[test]
fn f23_queries_that_grow_without_end_are_stopped_in_time() {
    let sample = Sample::new();
    let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)";
    let wide = "WITH RECURSIVE n(i, b) AS (SELECT 1, randomblob(100000) UNION ALL SELECT i + 1, randomblob(100000) FROM n)";
    let bombs = [
        format!("{numbers} SELECT count(*) FROM n"),
        format!("{numbers} SELECT i FROM n ORDER BY i DESC"),
        format!("{numbers} SELECT count(DISTINCT i) FROM n"),
        format!("{numbers} SELECT a.i FROM n a, n b, n c WHERE a.i + b.i = c.i - 1000000000"),
        format!("{wide} SELECT count(*) FROM n GROUP BY b"),
        format!("{numbers} SELECT group_concat(hex(randomblob(1000))) FROM n WHERE i % 1000 = -1"),
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n), m(j) AS (SELECT i FROM n UNION ALL SELECT j FROM m) SELECT max(j) FROM m".into(),
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT 1 FROM n WHERE random() IS NULL OR i) SELECT sum(i) FROM n".into(),
    ];
    let limits = Limits { time: Duration::from_millis(100), ..LIMITS };
    for sql in bombs {
        let begun = Instant::now();
        assert_eq!(sample.run(&sql, limits), "error: the query took longer than 100 ms", "{sql}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{sql}: {:?}", begun.elapsed());
    }
}

#[test]
fn f23_values_that_are_too_large_are_refused_at_once() {
    let sample = Sample::new();
    let deep = format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000));
    let compound = format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(1_000));
    let long = format!("SELECT '{}'", "x".repeat(70_000));
    for sql in [
        "SELECT randomblob(1000000000)",
        "SELECT zeroblob(1000000000)",
        "SELECT hex(zeroblob(16000000))",
        "SELECT printf('%1000000000d', 1)",
        "SELECT replace(hex(zeroblob(8000)), '0', hex(zeroblob(8000)))",
        "SELECT length(randomblob(2147483647) || randomblob(2147483647))",
        "SELECT json_group_array(value) FROM json_each('[' || substr(replace(hex(zeroblob(3000000)), '0', '1,'), 1, 11999999) || ']'), (SELECT 1 UNION SELECT 2)",
        &deep,
        &compound,
        &long,
    ] {
        let begun = Instant::now();
        let seen = sample.run(sql, Limits { time: Duration::from_secs(5), ..LIMITS });
        let shown: String = sql.chars().take(80).collect();
        assert!(seen.starts_with("error: ") && seen.len() < 400, "{shown}: {}", seen.len());
        assert!(begun.elapsed() < Duration::from_secs(8), "{shown}: {:?}", begun.elapsed());
    }
}

/// One function that works for long on its own: the deadline is looked at between operations only.
#[test]
fn f23_one_function_that_works_for_long_is_stopped_in_time() {
    let sample = Sample::new();
    let long = "replace(hex(zeroblob(500000)), '0', 'a')";
    let short = "replace(hex(zeroblob(125000)), '0', 'a')";
    for sql in [
        format!("SELECT {short} LIKE '%' || substr({long}, 1, 20000) || 'b'"),
        format!("SELECT {short} GLOB '*' || substr({long}, 1, 20000) || 'b'"),
        format!("SELECT instr({long}, substr({long}, 1, 400000) || 'b')"),
        format!("SELECT replace({long}, substr({long}, 1, 400000) || 'b', '')"),
    ] {
        let begun = Instant::now();
        sample.run(&sql, Limits { time: Duration::from_millis(100), ..LIMITS });
        assert!(begun.elapsed() < Duration::from_secs(2), "{sql}: {:?}", begun.elapsed());
    }
}

#[test]
fn f22_bytes_that_are_no_text_are_shown_and_do_not_break_the_result() {
    let sample = Sample::new();
    let seen =
        sample.run("SELECT CAST(x'636166e9' AS TEXT) AS a, CAST(x'eda080' AS TEXT) AS b", LIMITS);
    assert_eq!(seen, "a | b\ncaf\u{fffd} | \u{fffd}\u{fffd}\u{fffd}");
    let cut = sample.run("SELECT 'caf\u{e9}\u{e9}\u{e9}' AS a", Limits { bytes: 6, ..LIMITS });
    assert_eq!(cut, "a\ncaf\n... additional data cutoff (1 kB)");
}
