//! The numbers of runs as comma-separated values (RFC 4180): a row for each event, a column for each name.

use super::tags;
use crate::view::Skipped;
use anyhow::Result;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

/// Writes the numbers of `runs`, pairs of a name and a log, and returns what was left out of each log. Logs are read
/// twice, and never held.
///
/// # Errors
/// When a log cannot be read, or `to` cannot be written.
pub(crate) fn write(runs: &[(String, PathBuf)], to: &mut dyn Write) -> Result<Vec<Skipped>> {
    let mut skipped = vec![];
    let mut columns = BTreeSet::new();
    for (_, log) in runs {
        tags::read(log, |event| {
            for (tag, _) in event.numbers {
                if !columns.contains(&tag) {
                    columns.insert(tag);
                }
            }
            Ok(())
        })?;
    }
    let columns: Vec<String> = columns.into_iter().collect();
    let head = ["run", "time", "event", "step"].map(str::to_owned);
    write_row(head.iter().chain(&columns).map(|name| field(name)), to)?;
    for (run, log) in runs {
        skipped.push(tags::read(log, |event| {
            if event.numbers.is_empty() {
                return Ok(());
            }
            let time = event.time.map_or(String::new(), |time| time.to_string());
            let mut row = vec![field(run), time, field(&event.event), event.step.to_string()];
            row.resize(row.len() + columns.len(), String::new());
            for (tag, number) in event.numbers {
                let column = columns.binary_search(&tag).expect("all names were collected");
                row[4 + column] = number.to_string();
            }
            write_row(row.into_iter(), to)
        })?);
    }
    Ok(skipped)
}

fn write_row(fields: impl Iterator<Item = String>, to: &mut dyn Write) -> Result<()> {
    Ok(writeln!(to, "{}", fields.collect::<Vec<_>>().join(","))?)
}

/// A text as a field.
fn field(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_for_each_event_and_a_column_for_each_name() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log.jsonl");
        let lines = "{\"event\":\"start\",\"step\":0}\n\
            {\"event\":\"step\",\"step\":1,\"loss\":2.5,\"time\":1700000000.125}\nnot json\n\
            {\"event\":\"eval\",\"step\":1,\"val_loss\":null}\n";
        std::fs::write(&log, lines).unwrap();
        let mut out = vec![];
        let skipped = write(&[("a,\"b\"".to_owned(), log)], &mut out).unwrap();
        assert_eq!(skipped, [Skipped { torn: 0, foreign: 1 }]);
        let expected = "run,time,event,step,train/loss,validation/val_loss\n\
            \"a,\"\"b\"\"\",1700000000.125,step,1,2.5,\n\"a,\"\"b\"\"\",,eval,1,,NaN\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
