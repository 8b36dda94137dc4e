//! Rows for people and programs: a table, JSON, YAML or CSV, as `--output` says.

use std::io::Write as _;

use anyhow::{Context as _, Result, anyhow};
use clap::{Arg, ArgMatches};
use serde_json::{Map, Value};

/// A row: names of columns and what stands in them, in their order.
pub(crate) type Row = Vec<(&'static str, Value)>;

/// `--output`, the same everywhere.
pub(crate) fn arg() -> Arg {
    Arg::new("output")
        .long("output")
        .value_name("FORMAT")
        .default_value("table")
        .value_parser(["table", "json", "yaml", "csv"])
        .help("Form of the answer")
}

/// Says it on standard output. Whoever reads may have enough before the end, which is no failure; a full disk is.
///
/// # Errors
/// What cannot be written.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut to = std::io::stdout().lock();
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("write the answer")
        }
        _ => Ok(()),
    }
}

/// The rows in the asked form, ready to be printed.
///
/// # Errors
/// Never for rows of our own making.
pub(crate) fn render(matches: &ArgMatches, rows: &[Row]) -> Result<String> {
    let format = matches.get_one::<String>("output").map_or("table", String::as_str);
    match format {
        "json" => Ok(format!("{}\n", serde_json::to_string_pretty(&objects(rows))?)),
        "yaml" => {
            let options = serde_saphyr::ser_options! { indent_step: 2 };
            serde_saphyr::to_string_with_options(&objects(rows), options)
                .map_err(|e| anyhow!("write YAML: {e}"))
        }
        "csv" => Ok(csv(rows)),
        _ => Ok(table(rows)),
    }
}

fn objects(rows: &[Row]) -> Vec<Map<String, Value>> {
    fn object(row: &Row) -> Map<String, Value> {
        row.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }
    rows.iter().map(object).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn csv(rows: &[Row]) -> String {
    let quote = |text: String| {
        if text.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", text.replace('"', "\"\""))
        } else {
            text
        }
    };
    let line = |cells: Vec<String>| cells.join(",") + "\n";
    let head = rows.first().map(|row| line(row.iter().map(|(name, _)| (*name).into()).collect()));
    let body = rows.iter().map(|row| line(row.iter().map(|(_, v)| quote(text(v))).collect()));
    head.into_iter().chain(body).collect()
}

fn table(rows: &[Row]) -> String {
    let Some(first) = rows.first() else { return "nothing found\n".into() };
    let head: Vec<String> = first.iter().map(|(name, _)| (*name).to_uppercase()).collect();
    let cell = |value: &Value| text(value).replace(['\n', '\r', '\t'], " ");
    let body = rows.iter().map(|row| row.iter().map(|(_, value)| cell(value)).collect());
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(body).collect();
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|c| c.chars().count()).max()
    };
    let widths: Vec<usize> = (0..first.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for line in &lines {
        let padded: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())))
            .collect();
        out.push_str(padded.join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rows() -> Vec<Row> {
        vec![
            vec![("id", json!("a,b")), ("n", json!(1))],
            vec![("id", json!("line\nend \"x\"")), ("n", Value::Null)],
        ]
    }

    #[test]
    fn tables_align_and_keep_a_row_on_a_line() {
        assert_eq!(table(&rows()), "ID            N\na,b           1\nline end \"x\"\n");
        assert_eq!(table(&[]), "nothing found\n");
    }

    #[test]
    fn csv_quotes_what_would_break_it() {
        assert_eq!(csv(&rows()), "id,n\n\"a,b\",1\n\"line\nend \"\"x\"\"\",\n");
    }
}
